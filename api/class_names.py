"""Whether data that were brought in call their classes as those did that a network was trained on.

A network knows classes by number. Two data sets may share a class and number it otherwise, as each has its own in
the order of their names: then what is counted as right is not.
"""

from collections.abc import Mapping
from typing import Any

from bncore.spec import ExperimentSpec, Fault
from store.database import Database
from store.datasets import using
from store.errors import DatasetUnusable


def class_faults(database: Database, owner: str, trained: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with evaluating on `asked` what was trained on `trained`, both `data` of stored specs.

    Classes that only one of the two has are no fault: the same classes may be called otherwise.
    """
    known = {name: number for number, name in enumerate(_names(database, owner, trained))}
    for number, name in enumerate(_names(database, owner, asked) if known else []):
        if known.get(name, number) != number:
            detail = (
                f"The network was trained with {name[:40]!r} as class {known[name]}, and in these data it is "
                f"class {number}; bring in data that have all of its classes, and no others"
            )
            return [Fault("/data", detail, "other_classes")]
    return []


def start_faults(database: Database, owner: str, spec: ExperimentSpec) -> list[Fault]:
    """What may not be meant where training begins with a checkpoint whose head is kept: that classes are others."""
    start = spec.start_from
    if start is None or start.source is None or start.reset_head:
        return []
    there, here = (_names(database, owner, data.model_dump(mode="json")) for data in (start.source.data, spec.data))
    others = [number for number, (one, other) in enumerate(zip(there, here, strict=False)) if one != other]
    if not others:
        return []
    few = ", ".join(f"{number} was {there[number][:40]!r} and is {here[number][:40]!r}" for number in others[:3])
    detail = (
        f"The head of the checkpoint is for other classes: {few}{', ...' * (len(others) > 3)}; set it to true, unless "
        "these are the same by other names"
    )
    return [Fault("/start_from/reset_head", detail, "other_classes")]


def _names(database: Database, owner: str, data: Mapping[str, Any]) -> list[str]:
    """Of its classes by number; none where it was not brought in, is no longer there, or is another's."""
    if data.get("kind") != "dataset":
        return []
    try:
        with database.read() as session:
            manifest = using.readable(session, owner, data["id"]).manifest
    except DatasetUnusable:
        return []
    return list((manifest or {}).get("classes") or ())
