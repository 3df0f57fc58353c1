"""One request on its way through a route: what it asks, and the memory that it works on."""

from dataclasses import dataclass, field

from infra.stripesim import objects
from infra.stripesim.errors import StripeJson
from infra.stripesim.state import State


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request: the ids of its path, its parameters, who asked, and the events that it causes."""

    state: State
    ids: tuple[str, ...]
    parameters: StripeJson
    request_id: str
    idempotency_key: str | None
    listening: bool
    events: list[StripeJson] = field(default_factory=list)

    def tell(self, kind: str, thing: StripeJson) -> None:
        """Record the event of a change; it is sent to the webhook, if there is one, once the change is kept."""
        event = objects.event(
            self.state.new_id("evt"),
            self.state.now(),
            kind,
            dict(thing),
            request={"id": self.request_id, "idempotency_key": self.idempotency_key},
            pending=int(self.listening),
        )
        self.state.put(event)
        self.events.append(event)
