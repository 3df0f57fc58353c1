"""How a request is refused: Stripe's error body with its HTTP status."""

from dataclasses import dataclass, field
from typing import Any

StripeJson = dict[str, Any]
"""A JSON object as Stripe sends it."""


@dataclass(eq=False)
class RefusedError(Exception):
    """A refusal as Stripe words it; `executed` says that work had begun, so the answer is kept under its key."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    executed: bool = False
    details: StripeJson = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> StripeJson:
        """Return the JSON body of the answer."""
        error: StripeJson = {"type": self.type, "message": self.message, **self.details}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        if self.param is not None:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": error}


def no_such(kind: str, object_id: str, param: str = "id") -> RefusedError:
    """Return the refusal for an id that nothing has."""
    return RefusedError(
        404 if param == "id" else 400, f"No such {kind}: '{object_id}'", code="resource_missing", param=param
    )


def unsupported(param: str, value: object = None) -> RefusedError:
    """Return the refusal for what Stripe knows and the simulator does not."""
    what = f"the value {value!r} of {param}" if value is not None else f"the parameter {param}"
    return RefusedError(400, f"The simulator does not know {what}.", code="simulator_unsupported", param=param)
