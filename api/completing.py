"""A document that names a data set of its owner, completed: what is stored is self-contained.

Invariant: what is submitted, tried out or cloned goes through here, so that all of them mean the same data.
"""

from collections.abc import Mapping
from typing import Any

from api.merging import merged
from bncore.spec import ExperimentSpec, load_spec
from bncore.spec.data.dataset import complete, named_dataset
from store.database import Database
from store.datasets import using

_SAID_BY_THE_DATA_SET = ("sha256", "signal", "task", "outputs", "examples", "class_counts", "test")


def spec_of(database: Database, owner: str, document: Any) -> ExperimentSpec:
    """The complete spec of a document, in a thread that may ask the database. Raises `SpecError`, `DatasetUnusable`."""
    return load_spec(completed(database, owner, document))


def completed(database: Database, owner: str, document: Any) -> Any:
    """The document with all that its data set says. Raises `SpecError`, `DatasetUnusable`."""
    dataset_id = named_dataset(document)
    if dataset_id is None:
        return document
    with database.read() as session:
        manifest = using.readable(session, owner, dataset_id).manifest
    return complete(document, manifest or {})


def cloned_document(source: Mapping[str, Any], patch: Mapping[str, Any]) -> Any:
    """A stored spec with a merge patch applied; where that names another data set, what the former one said goes."""
    named = patch.get("data")
    former = dict(source["data"])
    if isinstance(named, Mapping) and named_dataset({"data": {**former, **named}}) not in (None, former.get("id")):
        former = {key: value for key, value in former.items() if key not in _SAID_BY_THE_DATA_SET}
    return merged({**source, "data": former}, dict(patch))
