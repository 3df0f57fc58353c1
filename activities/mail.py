"""Notices by e-mail: one message of plain text over SMTP, encrypted where the server can, always with a password."""

import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import SplitResult, unquote, urlsplit

from activities.settings import Settings
from ledger.errors import InvalidError
from ledger.notices import Notice
from ledger.webhook_targets import check_mail_address
from ledger.webhooks import Attempt

PORTS = {"smtp": 587, "smtps": 465}
EXAMPLE = "smtp://user:password@mail.example.com:587"


@dataclass(frozen=True, slots=True)
class MailServer:
    """The SMTP server that takes mail, and whom it is from. `is_encrypted` is TLS from the first byte (smtps)."""

    host: str
    port: int
    is_encrypted: bool
    sender: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def mail_server(settings: Settings) -> MailServer | None:
    """Return the server that the settings name; None without one, when no e-mail can be sent.

    Raises `InvalidError` for settings that cannot be read, never with the password in it.
    """
    url, sender = settings.meterbook_smtp_url, settings.meterbook_mail_from
    if url is None and sender is None:
        return None
    if url is None or sender is None:
        raise InvalidError("METERBOOK_SMTP_URL and METERBOOK_MAIL_FROM belong together; set both, or none")
    check_mail_address("METERBOOK_MAIL_FROM", sender)
    parts, port = _split(url.get_secret_value())
    if parts.scheme not in PORTS or not parts.hostname or port == 0 or parts.path.strip("/") or parts.query:
        raise _unreadable()
    if (parts.username is None) != (parts.password is None):
        raise InvalidError(f"METERBOOK_SMTP_URL must hold both user and password, or none; write {EXAMPLE}")
    return MailServer(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        is_encrypted=parts.scheme == "smtps",
        sender=sender,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


def mail_of(
    notice: Notice, *, sequence: int, endpoint_id: str, sender: str, recipient: str, at: datetime
) -> EmailMessage:
    """Return the message; its id is that of the fact at this endpoint, the same at each attempt and each replay."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = notice.subject
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<msg_{sequence}={endpoint_id.replace('.', '=')}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: so that no absence notice answers it
    message.set_content(notice.text, cte="quoted-printable")
    return message


def send_mail(server: MailServer, message: EmailMessage, *, within: timedelta) -> Attempt:
    """Hand a message to the server and return what it answered; whatever goes wrong is an attempt in vain, in words.

    `within` bounds each step of the conversation.
    """
    try:
        connection = _connected(server, within)
        try:
            _hand_over(connection, server, message)
        finally:
            connection.close()  # without QUIT, whose failure would say that what was taken was not
    except smtplib.SMTPRecipientsRefused as refused:
        [(code, words)] = refused.recipients.values()
        return Attempt(None, f"refused: {code} {_text(words)}")
    except smtplib.SMTPResponseException as error:
        return Attempt(None, f"refused: {error.smtp_code} {_text(error.smtp_error)}")
    except InvalidError as error:
        return Attempt(None, f"not sent: {error}")
    except (OSError, smtplib.SMTPException, UnicodeError) as error:
        return Attempt(None, f"no answer of the mail server: {str(error) or type(error).__name__}")
    return Attempt(250, "250 taken by the mail server")


def _connected(server: MailServer, within: timedelta) -> smtplib.SMTP:
    seconds, name = within.total_seconds(), socket.gethostname() or "localhost"
    if server.is_encrypted:
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, local_hostname=name, timeout=seconds, context=context)
    return smtplib.SMTP(server.host, server.port, local_hostname=name, timeout=seconds)


def _hand_over(connection: smtplib.SMTP, server: MailServer, message: EmailMessage) -> None:
    connection.ehlo_or_helo_if_needed()
    is_encrypted = server.is_encrypted
    if not is_encrypted and connection.has_extn("starttls"):
        connection.starttls(context=ssl.create_default_context())
        is_encrypted = True
    if server.user is not None and server.password is not None:
        if not is_encrypted:
            raise InvalidError(
                f"the mail server {server.host} offers no encryption, so that the password would be readable; "
                "use smtps:// in METERBOOK_SMTP_URL, or leave user and password out"
            )
        connection.login(server.user, server.password)
    connection.send_message(message)


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _unreadable() from None  # the cause would show the password
    return parts, port


def _unreadable() -> InvalidError:
    return InvalidError(f"METERBOOK_SMTP_URL cannot be read; write it as {EXAMPLE}, or with smtps://")


def _text(words: bytes | str) -> str:
    return " ".join((words.decode("utf-8", "replace") if isinstance(words, bytes) else words).split())
