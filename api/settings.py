"""What the API process reads from its environment, once, at its edge."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ApiSettings(BaseSettings):
    """`BNLAB_` and the field's name in capitals, for example `BNLAB_DATABASE_URL`."""

    # Environment variables of other BNLab services share the prefix.
    model_config = SettingsConfigDict(env_prefix="BNLAB_", extra="ignore", frozen=True)

    database_url: SecretStr
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    log_format: Literal["json", "console"] = "json"
    exit_on_eof: bool = Field(default=False, description="stdin is a pipe held by the parent; exit when it closes.")
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="A spec has a few kilobytes.")
    live_within_seconds: float = Field(
        default=20.0, gt=0, description="A process whose last heartbeat is older counts as gone; they beat every 5 s."
    )
    poll_seconds: float = Field(default=0.2, gt=0, description="How often waiting requests look for a change.")
    graceful_shutdown_seconds: int = Field(default=10, ge=1, description="For requests in flight at shutdown.")
