"""A document that names a data set or a checkpoint of its owner, completed: what is stored is self-contained.

Invariant: what is submitted, tried out or cloned goes through here, so that all of them mean the same data.
"""

from collections.abc import Mapping
from typing import Any

from bncore.spec import ExperimentSpec, Fault, SpecError, load_spec
from bncore.spec.data.dataset import complete, named_dataset
from bncore.spec.merging import merged
from store import held
from store.database import Database
from store.datasets import using
from store.errors import CheckpointNotFound

_SAID_BY_THE_DATA_SET = ("sha256", "signal", "task", "outputs", "examples", "class_counts", "test")


def spec_of(database: Database, owner: str, document: Any) -> ExperimentSpec:
    """The complete spec of a document, in a thread that may ask the database. Raises `SpecError`, `DatasetUnusable`."""
    return load_spec(completed(database, owner, document))


def completed(database: Database, owner: str, document: Any) -> Any:
    """The document with all that its data set and its checkpoint say. Raises `SpecError`, `DatasetUnusable`."""
    dataset_id = named_dataset(document)
    if dataset_id is not None:
        with database.read() as session:
            manifest = using.readable(session, owner, dataset_id).manifest
        document = complete(document, manifest or {})
    return _started(database, owner, document) if starts_from_another(document) else document


def is_complete(document: Any) -> bool:
    """Whether it names neither a data set nor a checkpoint of its owner's."""
    return named_dataset(document) is None and not starts_from_another(document)


def starts_from_another(document: Any) -> bool:
    """Whether training is to begin with a checkpoint."""
    return isinstance(document, Mapping) and isinstance(document.get("start_from"), Mapping)


def _started(database: Database, owner: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """With what the checkpoint is that it begins with."""
    start = document["start_from"]
    named, said = start.get("checkpoint"), start.get("source")
    if named is None:
        raise SpecError([Fault("/start_from/checkpoint", "Is required", "missing")])
    if not isinstance(named, str):
        # Its type is refused with all else.
        return dict(document)
    try:
        with database.read() as session:
            checkpoint, experiment = held.find(session, owner, named)
    except CheckpointNotFound:
        detail = "There is no such checkpoint; those of an experiment are listed under it"
        raise SpecError([Fault("/start_from/checkpoint", detail, "no_such_checkpoint")]) from None
    found = {
        "experiment": experiment.id,
        "step": checkpoint.step,
        "sha256": checkpoint.weights.sha256,
        "data": experiment.spec["data"],
        "network": experiment.spec["network"],
    }
    if said is not None and said != found:
        raise SpecError([Fault("/start_from/source", "Is another one; leave it out", "another_source")])
    return {**document, "start_from": {**start, "source": found}}


def cloned_document(source: Mapping[str, Any], patch: Mapping[str, Any]) -> Any:
    """A stored spec with a merge patch applied; where that names another data set, or another checkpoint to begin with,
    what the former one said goes."""
    named = patch.get("data")
    former = dict(source["data"])
    if isinstance(named, Mapping) and named_dataset({"data": {**former, **named}}) not in (None, former.get("id")):
        former = {key: value for key, value in former.items() if key not in _SAID_BY_THE_DATA_SET}
    document: dict[str, Any] = merged({**source, "data": former}, dict(patch))
    start = document.get("start_from")
    if isinstance(start, Mapping) and start.get("checkpoint") != (source.get("start_from") or {}).get("checkpoint"):
        document["start_from"] = {key: value for key, value in start.items() if key != "source"}
    return document
