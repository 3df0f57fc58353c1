"""What a process is told: addresses and keys, read once from the environment.

What the environment does not name comes from `.meterbook/stack.env`, which `meterbook up` writes for the local stack.
"""

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def state_folder() -> Path:
    """Return the folder that holds the local stack's files: METERBOOK_HOME, else `.meterbook` in the clone."""
    configured = os.environ.get("METERBOOK_HOME")
    return Path(configured) if configured else Path(__file__).resolve().parent.parent / ".meterbook"


class Settings(BaseSettings):
    """The settings of one process; frozen, so that nothing changes under a running worker."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: str
    temporal_address: str
    temporal_namespace: str = "default"
    temporal_api_key: SecretStr | None = None
    temporal_tls: bool = False
    stripe_api_key: SecretStr | None = None
    stripe_api_base: str | None = Field(default=None, description="Another address of Stripe; refused with a live key.")
    stripe_webhook_secret: SecretStr | None = None
    meterbook_gather_milliseconds: int = Field(
        default=20, ge=0, le=1000, description="How long a small request waits for others to share its transaction."
    )
    meterbook_spool_dir: Path | None = Field(
        default=None, description="Where usage waits on disk while the database is away; without it, it gets 503."
    )
    meterbook_spool_bytes: int = Field(
        default=1024**3, ge=1024**2, description="Bytes that one HTTP server may keep there; more is answered with 503."
    )
    meterbook_waiting_events: int = Field(
        default=50_000, ge=1, description="Events that may wait in one HTTP server; more are answered with 429."
    )
    meterbook_waiting_bytes: int = Field(
        default=128 * 1024 * 1024, ge=32 * 1024 * 1024, description="Bytes of bodies held at a time; more get 429."
    )
    meterbook_keep_months: int | None = Field(
        default=None, ge=1, description="Whole months of usage events kept before the current one; unset: all."
    )
    meterbook_archive_dir: Path | None = Field(
        default=None, description="Where older months of usage events are exported before they leave the database."
    )
    meterbook_webhook_allow_private: bool = Field(
        default=False, description="Whether webhooks may go to addresses that are not public, there also by http."
    )
    meterbook_smtp_url: SecretStr | None = Field(
        default=None, description="The server for e-mail: smtp://user:password@host:port, or smtps://."
    )
    meterbook_mail_from: str | None = Field(default=None, description="The address that e-mail is from.")


def load_settings() -> Settings:
    """Read the settings of this process; raise pydantic's `ValidationError` naming what is missing."""
    return Settings(_env_file=state_folder() / "stack.env")
