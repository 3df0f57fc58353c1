"""What a door answers instead of doing what it was asked: one clear sentence with the remedy."""


class DoorError(Exception):
    """The request cannot be carried out from here; its text is meant for the person or program that asked."""


class AwayError(DoorError):
    """PostgreSQL, Temporal or Stripe does not answer; the same request may succeed later and is safe to repeat.

    `what` says who does not answer, without the remedy.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
