"""What a worker and the relay read from their environment, each variable with the prefix BNLAB_.

Invariant: a worker renews its lease three times before it could expire, so that one lost renewal loses nothing.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from store.settings import PREFIX, DatabaseUrl


class _QueueSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", hide_input_in_errors=True)

    database_url: DatabaseUrl
    redis_url: SecretStr
    lease_seconds: float = Field(default=60.0, gt=0, description="A worker silent for so long has lost its experiment.")
    heartbeat_seconds: float = Field(default=5.0, gt=0, description="How often the process says that it lives.")
    log_format: Literal["json", "console"] = "json"
    exit_on_eof: bool = Field(default=False, description="Standard input is a pipe held by the parent; end with it.")


class WorkerSettings(_QueueSettings):
    """The worker: one process a device."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    runs_dir: Path = Path("runs")
    tick_seconds: float = Field(default=5.0, gt=0, description="Renew the lease at least this often.")
    flush_seconds: float = Field(default=0.5, gt=0, description="Store new events at most this often.")
    look_seconds: float = Field(default=2.0, gt=0, description="How often an idle worker looks at its queue unasked.")
    grace_seconds: float = Field(default=120.0, ge=0, description="From SIGTERM to SIGKILL of a trainer.")
    running_per_owner: int = Field(
        default=64, ge=1, lt=2**31, description="How many jobs of one owner may run at a time."
    )
    queued_per_owner: int = Field(
        default=20_000, ge=1, lt=2**31, description="Jobs of one owner that may wait when a study submits more."
    )
    bytes_per_owner: int = Field(default=100 << 30, ge=0, description="Of files that one owner may have stored.")
    data_cache_bytes: int = Field(
        default=20 << 30, ge=0, description="Of data sets kept below the runs' directory; those in use stay."
    )
    spare_bytes: int = Field(default=256 << 20, ge=0, description="With less room on its disk a worker takes no job.")

    @model_validator(mode="after")
    def _renewals_fit_into_the_lease(self) -> Self:
        if self.tick_seconds >= self.lease_seconds / 3:
            raise ValueError(
                f"BNLAB_TICK_SECONDS ({self.tick_seconds:g}) must be less than a third of BNLAB_LEASE_SECONDS "
                f"({self.lease_seconds:g}): otherwise one lost renewal loses the experiment"
            )
        return self


class RelaySettings(_QueueSettings):
    """The relay: rings the bells of the outbox, reaps, purges."""

    poll_seconds: float = Field(
        default=1.0, gt=0, description="How often the outbox is looked at when the database says nothing."
    )
    reap_seconds: float = Field(default=5.0, gt=0, description="How often expired leases are looked for, at most.")
    search_seconds: float = Field(default=1.0, gt=0, description="How often searches of sweeps are looked at.")
    purge_seconds: float = Field(default=60.0, gt=0, description="How often deleted experiments give back their bytes.")

    @property
    def reap_every_seconds(self) -> float:
        """Often enough that an outage too short to be noticed cannot have cost a lease."""
        return min(self.reap_seconds, self.lease_seconds / 4)
