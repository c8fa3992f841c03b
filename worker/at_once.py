"""What a trainer reports, with the small files and checkpoints in it, stored in one transaction.

Invariant: all of it is stored, or nothing. Whatever is not as usual is left to those who store one thing after another
(`worker.file_upload`, `worker.checkpoint_upload`) and say what is the matter. Bytes are read and their SHA-256 is found
before the transaction, and what is stored is compared with them in it, before it is shown.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved, Event, FileSaved, StoredFile
from store import at_once, checkpoints
from store.at_once import CameBefore
from store.errors import FileDamaged, QuotaExceeded
from store.files import CHUNK_BYTES, Announced, Small
from store.jobs.leases import Go, Stop
from worker.file_upload import FileSender

log = structlog.get_logger()

Bytes = Mapping[str, bytes]
"""By the name of the file in the run directory."""


def nothing(_: Session) -> None:
    """More than storing is not to be done."""


def stored(
    sender: FileSender,
    events: Sequence[Event],
    made: Sequence[FileSaved],
    saved: Sequence[CheckpointSaved],
    then: Callable[[Session], object] = nothing,
) -> Go | Stop | None:
    """Store events, files and checkpoints, renew the lease and do what is to be done `then`, in one transaction; None,
    and nothing is done, where that is not to be.

    Raises `StaleLease`, and what `worker.outage` lists; then it may have been done all the same, and is done again.
    """
    content = _read(sender.directory, [*(one.file for one in made), *(file for one in saved for file in _files(one))])
    if content is None:
        return None
    small = [Small(_announced(one), content[one.file.file]) for one in made]
    parts = [(one, {part: content[file.file] for part, file in checkpoints.parts(one).items()}) for one in saved]
    try:
        with sender.database.write() as session:
            answer = at_once.store(session, sender.lease, events, small, parts, sender.owner_bytes)
            then(session)
    except (QuotaExceeded, FileDamaged, CameBefore) as error:
        log.info("not_stored_at_once", error=repr(error))
        return None
    return answer


def _announced(file: FileSaved) -> Announced:
    return Announced(file.name, file.file_kind, file.step, file.file.size, file.file.sha256)


def _read(directory: Path, wanted: Sequence[StoredFile]) -> Bytes | None:
    """Their bytes; None where they are more than one chunk in all, one has none, or they are not what was announced."""
    if sum(one.size for one in wanted) > CHUNK_BYTES or any(one.size == 0 for one in wanted):
        return None
    try:
        content = {one.file: (directory / one.file).read_bytes() for one in wanted}
    except FileNotFoundError:
        return None
    is_announced = (hashlib.sha256(content[one.file]).hexdigest() == one.sha256 for one in wanted)
    return content if all(is_announced) else None


def _files(event: CheckpointSaved) -> list[StoredFile]:
    return [*checkpoints.parts(event).values()]
