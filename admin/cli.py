"""The command `meterbook`: one module of `admin.commands` per noun, loaded when it is named."""

from collections.abc import Sequence
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from admin import screen
from admin.commands import explain, init, quote, schema, stack, verify
from admin.errors import DoorError
from admin.leaving import leave
from ledger.errors import MeterbookError

NOUNS = {
    "entity": ("Who sells: currency, time zone and invoice series.", "meterbook entity create entity.yaml"),
    "customer": ("Who buys, and under which names their usage arrives.", "meterbook customer create customers.yaml"),
    "metric": ("What is counted: the rules that turn events into quantities.", "meterbook metric create metrics.yaml"),
    "ratecard": ("The prices that many contracts share.", "meterbook ratecard show list-2026"),
    "apikey": ("Who may speak to the HTTP API.", "meterbook apikey create gateway-eu-1"),
    "contract": (
        "What was agreed: prices, commits, invoicing and collection.",
        "meterbook contract start contract.yaml --start 2026-10-01",
    ),
    "credit": (
        "Credits and prepaid amounts: granted, changed, and burning down.",
        "meterbook credit balance acme-payg",
    ),
    "catalog": ("Everything that is sold and agreed, as files.", "meterbook catalog apply catalog --plan"),
    "price": ("How amounts came about.", "meterbook price explain acme-payg"),
    "usage": ("The events: send them, and see what became of them.", "meterbook usage send events.jsonl"),
    "trace": ("Where a single event went.", "meterbook trace event gateway-eu-1 req-000123"),
    "feature": (
        "What customers may do, and which contracts grant it.",
        "meterbook feature create writing --kind balance --product tokens",
    ),
    "gate": ("May a customer use a feature now, and what is left.", "meterbook gate check acme writing"),
    "hold": ("Money and units reserved before work is done.", "meterbook hold list --customer acme"),
    "close": ("Closing a month of an entity's books.", "meterbook close start nordlicht 2026-10 --wait"),
    "invoice": ("Drafts, reviews and final invoices.", "meterbook invoice show acme-payg.2026-10-01"),
    "payment": ("Money that came in.", "meterbook payment list --entity nordlicht"),
    "webhook": (
        "Endpoints that hear of facts as they happen.",
        "meterbook webhook create pager https://hooks.example.com/meterbook",
    ),
    "alert": (
        "Thresholds on spend, usage and balances, and what crossed them.",
        "meterbook alert create budget --kind spend --threshold 5000 --contract acme-payg",
    ),
    "ledger": ("The books: balances, accounts and transfers.", "meterbook ledger trial-balance nordlicht"),
}
"""What each noun is about, and how its commands look."""


class Noun(TyperGroup):
    """A noun's commands, imported when one of them, or their list, is asked for: every other command starts faster."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        """Return the names of the noun's commands."""
        self._load()
        return [*self.commands]

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:  # noqa: ARG002 - see above
        """Return one of the noun's commands, or a group of them."""
        self._load()
        command = self.commands.get(cmd_name)
        return command if isinstance(command, TyperCommand | TyperGroup) else None

    def _load(self) -> None:
        if not self.commands:
            self.commands = get_group(import_module(f"admin.commands.{self.name}").application).commands


application = typer.Typer(
    name="meterbook",
    help="Usage billing: events in; balances, invoices, payments and closed books out.",
    epilog="Example: meterbook up && meterbook contract start contract.yaml && meterbook usage send events.jsonl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (stack.up, stack.down, stack.status):
    application.command(epilog=stack.EXAMPLES[_command.__name__])(_command)
for _noun, (_help, _example) in NOUNS.items():
    application.add_typer(
        typer.Typer(cls=Noun), name=_noun, help=_help, no_args_is_help=True, epilog=f"Example: {_example}"
    )
application.command(epilog=init.EXAMPLE)(init.init)
application.command(epilog=explain.EXAMPLE)(explain.explain)
application.command(epilog=quote.EXAMPLE)(quote.quote)
application.command(epilog=schema.EXAMPLE)(schema.schema)
application.command(epilog=verify.EXAMPLE)(verify.verify)


def main() -> None:
    """Run the command; an expected refusal is one sentence on standard error and exit code 1."""
    leave(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the process's own) and return its exit code."""
    try:
        application(arguments, prog_name="meterbook")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except (MeterbookError, DoorError) as error:
        screen.refuse(str(error))
        return 1
    except KeyboardInterrupt:
        screen.refuse("interrupted; what was confirmed is recorded, and the command is safe to repeat")
        return 130
    return 0


if __name__ == "__main__":
    main()
