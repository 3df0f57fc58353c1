"""`python -m admin.http --host 127.0.0.1 --port 8080`: the HTTP API as a process."""

import logging
from typing import Annotated

import typer
import uvicorn

from admin import screen
from admin.connections import settings
from admin.errors import DoorError
from admin.http.application import create_app
from admin.leaving import leave
from admin.logs import configure_logs

STOP_SECONDS = 10

Host = Annotated[str, typer.Option(help="The address to listen at.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes a free one.")]


def serve(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Serve the HTTP API until it is told to stop; pending nudges are delivered before it ends."""
    configure_logs(level=logging.INFO)
    application = create_app(settings())
    uvicorn.run(
        application, host=host, port=port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS, server_header=False,
    )  # fmt: skip


def main() -> None:
    """Run the server; missing settings are one sentence on standard error."""
    try:
        typer.run(serve)
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 0)
    except DoorError as error:
        screen.refuse(str(error))
        leave(1)
    leave(0)


if __name__ == "__main__":
    main()
