"""`meterbook webhook`: endpoints that hear of facts as they happen, by webhook, Slack or mail, and what each heard."""

import json
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from activities.webhook_targets import check_channel
from admin import durable
from admin.commands.options import AsJson, Limit
from admin.connections import books, settings
from admin.errors import AwayError
from admin.plain import json_text
from admin.screen import moment, note, say, say_json, show_table
from admin.webhook_listening import LOCALHOST, Heard, listening
from ledger import webhooks
from ledger.webhook_signatures import check_secret

application = typer.Typer()

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="Where messages go: https://..., or mailto:...")]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", metavar="KIND", help="Only facts of this kind; may be repeated.")
]
ByChannel = Annotated[
    Literal["webhook", "slack", "email"], typer.Option("--channel", help="Signed JSON, or sentences for people.")
]
OfState = Annotated[
    Literal["pending", "delivered", "dead"] | None, typer.Option("--state", help="Only those of this state.")
]
FromSequence = Annotated[int, typer.Option("--from", min=1, metavar="SEQUENCE", help="The first fact to send again.")]
Secret = Annotated[
    str,
    typer.Option(
        "--secret", envvar="METERBOOK_WEBHOOK_SECRET", metavar="WHSEC", help="The endpoint's secret: whsec_..."
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port on this machine; 0 takes a free one.")]
Count = Annotated[int | None, typer.Option(min=1, help="Stop after so many messages.")]


@application.command(epilog="Example: meterbook webhook create pager https://hooks.example.com/m --kind alert.raised")
def create(
    endpoint_id: EndpointId, url: Url, *, kinds: Kinds = None, channel: ByChannel = "webhook", as_json: AsJson = False
) -> None:
    """Make an endpoint, for all kinds of facts unless some are named; of a webhook show the secret, this once."""
    check_channel(channel, url, settings())
    allow_private, at = settings().meterbook_webhook_allow_private, datetime.now(UTC)
    with books() as connection:
        if channel == "webhook":
            secret = webhooks.create_endpoint(
                connection, endpoint_id, url, kinds or (), allow_private=allow_private, at=at
            )
            made = secret is not None
        else:
            secret = None
            made = webhooks.create_unsigned_endpoint(
                connection, endpoint_id, url, kinds or (), channel=channel, allow_private=allow_private, at=at
            )
    if as_json:
        say_json({"endpoint_id": endpoint_id, "outcome": "created" if made else "exists", "secret": secret})
    elif not made:
        say(f"endpoint {endpoint_id} exists already with this url and these kinds; nothing changed")
    elif secret is None:
        say(f"endpoint {endpoint_id} hears of facts by {channel}")
    else:
        say(f"endpoint {endpoint_id}: {secret}")
        say("Keep the secret now, it cannot be shown again; the receiver verifies each message with it.")
    _wake(endpoint_id)


@application.command("list", epilog="Example: meterbook webhook list --json")
def list_(*, as_json: AsJson = False) -> None:
    """List the endpoints, never with their secrets, and how much of what they are to hear waits or is dead."""
    with books() as connection:
        found = [webhooks.shown(endpoint) for endpoint in webhooks.list_endpoints(connection)]
    if as_json:
        say_json(found)
        return
    show_table(
        ("endpoint", "channel", "state", "pending", "dead", "kinds", "url", "created"),
        [
            (e.endpoint_id, e.channel, e.state, str(e.pending), str(e.dead), ", ".join(e.kinds) or "all", e.url,
             moment(e.created_at))
            for e in found
        ],
        right=("pending", "dead"),
        empty="no endpoint is made yet; make one with `meterbook webhook create ENDPOINT URL`",
    )  # fmt: skip


@application.command(epilog="Example: meterbook webhook rotate pager")
def rotate(endpoint_id: EndpointId, *, as_json: AsJson = False) -> None:
    """Give an endpoint another secret and show it, this once; the old one signs beside it for 24 hours."""
    with books() as connection:
        secret = webhooks.rotate_secret(connection, endpoint_id, at=datetime.now(UTC))
    if as_json:
        say_json({"endpoint_id": endpoint_id, "secret": secret})
        return
    say(f"endpoint {endpoint_id}: {secret}")
    say("Keep the secret now, it cannot be shown again; for 24 hours messages are signed with the old one too.")


@application.command(epilog="Example: meterbook webhook pause pager")
def pause(endpoint_id: EndpointId) -> None:
    """Send nothing to an endpoint until it is resumed; what happens meanwhile is kept for it."""
    with books() as connection:
        webhooks.pause_endpoint(connection, endpoint_id)
    say(f"endpoint {endpoint_id} is paused; go on with `meterbook webhook resume {endpoint_id}`")


@application.command(epilog="Example: meterbook webhook resume pager")
def resume(endpoint_id: EndpointId) -> None:
    """Send to an endpoint again, and at once what waits for it."""
    with books() as connection:
        waiting = webhooks.resume_endpoint(connection, endpoint_id, at=datetime.now(UTC))
    say(f"endpoint {endpoint_id} is active; {waiting} messages wait for it")
    _wake(endpoint_id)


@application.command(epilog="Example: meterbook webhook remove pager")
def remove(endpoint_id: EndpointId) -> None:
    """Remove an endpoint for good: what waits for it is dead, and its id is not given again."""
    with books() as connection:
        dead = webhooks.remove_endpoint(connection, endpoint_id)
    say(f"endpoint {endpoint_id} is removed; {dead} messages that waited for it are not sent")
    _wake(endpoint_id)


@application.command(epilog="Example: meterbook webhook deliveries pager --state dead")
def deliveries(endpoint_id: EndpointId, *, state: OfState = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List what an endpoint heard or is to hear, the latest first, with what the last attempt came to."""
    with books() as connection:
        found = webhooks.list_deliveries(connection, endpoint_id, state=state, limit=limit)
    if as_json:
        say_json(found)
        return
    show_table(
        ("sequence", "kind", "happened", "state", "attempts", "next attempt", "delivered", "last answer"),
        [
            (str(d.sequence), d.kind, moment(d.created_at), d.state, str(d.attempts),
             moment(d.due_at if d.state == "pending" else None), moment(d.delivered_at), d.answered or "-")
            for d in found
        ],
        right=("sequence", "attempts"),
        empty=f"nothing {'' if state is None else state + ' '}is there for endpoint {endpoint_id}",
    )  # fmt: skip


@application.command(epilog="Example: meterbook webhook replay pager --from 1042")
def replay(endpoint_id: EndpointId, *, from_sequence: FromSequence) -> None:
    """Send every fact from a sequence number on again, whatever became of it; message ids stay the same."""
    with books() as connection:
        count = webhooks.replay(connection, endpoint_id, from_sequence=from_sequence, at=datetime.now(UTC))
        state = webhooks.get_endpoint(connection, endpoint_id).state
    paused = f", once it is resumed: it is {state}" if state != "active" else ""
    say(f"{count} messages are sent again to endpoint {endpoint_id}{paused}")
    _wake(endpoint_id)


@application.command(epilog="Example: meterbook webhook listen --port 8099 --secret whsec_...")
def listen(*, secret: Secret, port: Port = 8099, count: Count = None, as_json: AsJson = False) -> None:
    """Receive webhooks on this machine, check each signature and print each message, until interrupted.

    The endpoint's URL is then http://127.0.0.1:PORT; workers accept it with METERBOOK_WEBHOOK_ALLOW_PRIVATE=true.
    """
    check_secret(secret)
    heard = 0

    def hear(message: Heard) -> None:
        nonlocal heard
        heard += 1
        _show(message, as_json=as_json)

    with listening(port, secret, hear) as server:
        note(f"listening on http://{LOCALHOST}:{server.server_address[1]}")
        while count is None or heard < count:
            server.handle_request()


def _show(message: Heard, *, as_json: bool) -> None:
    if as_json:
        say(json_text(message))
    elif message.problem is not None:
        note(f"{moment(message.received_at)} {message.message_id or 'a message'} is refused: {message.problem}")
    else:
        say(f"{moment(message.received_at)} {message.message_id}")
        say(_indented(message.body))


def _indented(body: str) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body


def _wake(endpoint_id: str) -> None:
    """Have the endpoint's delivery look at once; where Temporal is away, the sweep makes up for it."""
    try:
        durable.wake_webhook(endpoint_id)
    except AwayError as error:
        note(f"recorded; messages go out when Temporal is back ({error.what})")
