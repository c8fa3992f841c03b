"""In words, what a queued job waits for, as far as this process knows who is there."""

import time
from collections.abc import Sequence

from api.shown import utc
from store import tables

Living = Sequence[tables.Process] | None
"""The processes that say they live, a moment ago; None when that is not known."""


def waiting_for(row: tables.Job, living: Living) -> str | None:
    """A time, a worker, or one that is not there; None unless the job is queued."""
    wanted = row.waiting_for
    if wanted is None:
        return None
    # The store's clock set it, and this host's is near enough for words.
    if row.not_before is not None and row.not_before > time.time():
        return f"until {utc(row.not_before).isoformat(timespec='seconds').replace('+00:00', 'Z')}"
    if living is None:
        return wanted
    connected = [process for process in living if _serves(process, row.queue, row.pinned_device_model)]
    if not connected:
        return f"a {row.queue} {wanted}; none is connected"
    if all(process.trouble for process in connected):
        return f"a {row.queue} {wanted}; those connected are in trouble: {connected[0].trouble}"
    return wanted


def device_lives(living: Sequence[tables.Process], device: str) -> bool:
    """Whether a worker for that device is connected."""
    return any(_serves(process, device, None) for process in living)


def _serves(process: tables.Process, device: str, model: str | None) -> bool:
    return process.kind == "worker" and process.device == device and model in (None, process.device_model)
