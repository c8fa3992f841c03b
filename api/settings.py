"""What the API process reads from its environment, once, at its edge."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from store.settings import PREFIX, DatabaseUrl


class ApiSettings(BaseSettings):
    """`BNLAB_` and the field's name in capitals, for example `BNLAB_DATABASE_URL`."""

    # Environment variables of other BNLab services share the prefix.
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: DatabaseUrl
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    api_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="That serve the port together. Each has some 20 connections to PostgreSQL at most, and memory and"
        " limits of its own.",
    )
    api_sockets: tuple[int, ...] = Field(
        default=(), description="Bound already, by file descriptor; the parent of several processes passes them on."
    )
    log_format: Literal["json", "console"] = "json"
    exit_on_eof: bool = Field(default=False, description="stdin is a pipe held by the parent; exit when it closes.")
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="A spec has a few kilobytes.")
    max_part_bytes: int = Field(default=64 << 20, ge=1, description="Of an upload, in one request.")
    max_upload_bytes: int = Field(default=2 << 30, ge=1, description="Of a data set, as it is uploaded.")
    live_within_seconds: float = Field(
        default=20.0, gt=0, description="A process whose last heartbeat is older counts as gone; they beat every 5 s."
    )
    poll_seconds: float = Field(default=0.03, gt=0, description="How soon a request that comes to wait is looked for.")
    graceful_shutdown_seconds: int = Field(default=10, ge=1, description="For requests in flight at shutdown.")

    prediction_seconds: float = Field(default=30.0, gt=0, le=300, description="A prediction is awaited that long: 504.")
    database_seconds: float = Field(default=20.0, gt=0, description="A request waits that long for the database: 503.")
    aside_seconds: float = Field(
        default=20.0,
        gt=0,
        description="CPU seconds for one figure or table, then 503; a PNG that is estimated at 40 % of it is refused.",
    )
    aside_stuck_seconds: float = Field(
        default=300.0, gt=0, description="By the clock, for one that takes no CPU time: 503. A busy machine needs some."
    )
    aside_wait_seconds: float = Field(default=60.0, gt=0, description="For its turn, then 503.")
    aside_waiting: int = Field(
        default=100,
        ge=1,
        description="Requests for figures and tables that may wait at once; of one owner half as many.",
    )
    aside_idle_seconds: float = Field(default=60.0, gt=0, description="Then the process that makes them ends.")
    aside_memory_bytes: int = Field(default=1 << 30, ge=1 << 28, description="That this process may use.")
    key_cache_seconds: float = Field(default=5.0, ge=0, description="A revoked key may go on working for that long.")
    key_use_seconds: float = Field(default=60.0, gt=0, description="How often it is stored which keys were used.")
    readiness_cache_seconds: float = Field(default=1.0, ge=0, description="How old an answer of /readyz may be.")

    first_byte_seconds: float = Field(default=10.0, gt=0, description="From a connection to its first byte.")
    head_seconds: float = Field(default=10.0, gt=0, description="From the first byte of a request to its whole head.")
    body_seconds: float = Field(default=10.0, gt=0, description="For a body, and what `min_body_rate` adds.")
    min_body_rate: float = Field(default=16_384.0, gt=0, description="Bytes a second that a body has to come with.")
    idle_seconds: float = Field(default=15.0, gt=0, description="Between two requests on one connection.")
    stall_seconds: float = Field(default=60.0, gt=0, description="For a client that takes nothing of its answer.")
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Open at once, of each process; by default what the limit of open files leaves, at most 4096.",
    )
    queued_per_owner: int = Field(
        default=20_000, ge=1, lt=2**31, description="Jobs of one owner that may wait at a time."
    )
    bytes_per_owner: int = Field(
        default=100 << 30, ge=0, description="Of files; an owner who has more may submit nothing new."
    )

    requests_per_second: float = Field(
        default=200.0, ge=0, description="Of one owner, in the long run; 0: any number. Each process counts for itself."
    )
    request_burst: int = Field(default=1000, ge=1, description="How many of them may come at once.")
    failed_keys_per_minute: int = Field(
        default=20,
        ge=0,
        description="Wrong keys from one address, then 429 without a look; 0: any number. Processes share them.",
    )
