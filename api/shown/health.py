"""Whether the process lives, and what it can reach."""

from typing import Literal

from pydantic import Field

from api.shown import Shown


class Health(Shown):
    status: Literal["ok"] = "ok"


class Readiness(Shown):
    """In words. Only an unreachable database makes the service unready: the others delay experiments, none is lost."""

    status: Literal["ready"] = "ready"
    database: Literal["ok"] = "ok"
    broker: Literal["ok", "unreachable", "unknown"]
    relay: Literal["ok", "absent"]
    workers: Literal["ok", "absent"]
    devices: dict[str, int] = Field(description="Living workers by the queue they serve.")
