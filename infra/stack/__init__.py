"""The local stack: PostgreSQL, Temporal, the Stripe simulator, a worker and the HTTP API as child processes.

`python -m infra.stack up|down|status|run` for people; `running_stack(...)` for the demo and the tests. A part is a
process group of its own; its record in `stack.json` carries the time the process was born, so that a pid that was
given out again is never signalled.
"""

from infra.stack.errors import StackError
from infra.stack.stack import PARTS, Stack, running_stack

RunningStack = Stack
"""What `running_stack` gives."""

__all__ = ["PARTS", "RunningStack", "Stack", "StackError", "running_stack"]
