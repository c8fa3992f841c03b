"""What a worker needs to import a data set, and what it leaves: the data set's part in `store.work`.

Invariant: a data set that is shown as such has its `dataset.json` among its files, and is known by that one's SHA-256.
What was uploaded goes once it was imported, or once it is known that it cannot be.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from store import files
from store.columns import core
from store.datasets.uploads import PART
from store.jobs.failures import Failure
from store.jobs.leases import Lease
from store.prepared import Prepared
from store.tables import Dataset, File
from store.text import finite_json

MANIFEST = "dataset.json"
_DATASET = core(Dataset).c
_ASKED = select(_DATASET.spec, _DATASET.file_name).where(_DATASET.id == bindparam("of_dataset"))


def prepare(session: Session, lease: Lease) -> Prepared:
    """How the source is to be read, and the parts that it is put together of."""
    spec, file_name = session.execute(_ASKED, {"of_dataset": lease.job_id}).one()
    return Prepared(spec, inputs={f"source/{file_name}": tuple(part.id for part in _parts(session, lease.job_id))})


def conclude(session: Session, dataset_id: str, result: Mapping[str, Any]) -> None:
    """Store the report, and what the files say that were made. Raises ValueError where there is no `dataset.json`."""
    made = [file for file in files.of_job(session, dataset_id) if file.name == MANIFEST]
    if not made:
        raise ValueError(f"{dataset_id} ended without {MANIFEST}")
    text = b"".join(files.chunk(session, made[0].id, seq) for seq in range(-(-made[0].size // files.CHUNK_BYTES)))
    values = {"sha256": made[0].sha256, "manifest": json.loads(text), "report": finite_json(dict(result))}
    session.execute(update(core(Dataset)).where(_DATASET.id == dataset_id).values(values))
    files.drop(session, [part.id for part in _parts(session, dataset_id)])


def fail(session: Session, dataset_id: str, failure: Failure) -> None:
    """Give up what an import left that failed for good, and what was uploaded where that is why."""
    is_at_fault = failure.code == "invalid_data"
    left = [file.id for file in files.of_job(session, dataset_id) if is_at_fault or file.kind != PART]
    files.drop(session, left)


def _parts(session: Session, dataset_id: str) -> list[File]:
    return sorted((file for file in files.of_job(session, dataset_id) if file.kind == PART), key=lambda part: part.name)
