"""What differs between specs, as dotted paths: what groups are told apart by.

Invariant: two specs that a path tells apart are never one group, in a table or in a figure.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

DECIDE_NO_RESULT = (
    "name",
    "tags",
    "train.seed",
    "diagnostics",
    "checkpoint",
    "max_restarts",
    "deadline_seconds",
    "stall_seconds",
)
"""Fields of a spec that tell nothing apart. The seed makes replicates, name and tags are labels, diagnostics disturb no
training, and the others say what is kept and how long is waited. `resources` are not among them: seconds hang on these.
"""
_NO_DIFFERENCE = tuple(f"{path}." for path in DECIDE_NO_RESULT)


def differences(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paths at which some of the specs differ, in the order of the fields.

    A field that a spec has not, because it chose another `kind`, differs from nothing; of one kind it does.
    """
    return [path for path in _walk("", list(specs)) if not f"{path}.".startswith(_NO_DIFFERENCE)]


def following(paths: Sequence[str], wheres: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of the paths those whose value a `kind` beside or above them decides, and the path of that: mostly defaults."""
    found = {}
    for path in paths:
        above = [kind for kind in paths if kind.endswith("kind") and kind != path and f"{path}.".startswith(kind[:-4])]
        if names_a_norm(path):
            # Which norm it is is never a mere default; a list that says the same of many layers says it once.
            above = [kind for kind in paths[: paths.index(path)] if _is_said_alike(kind, path, wheres)][:1]
        decided = [kind for kind in above if _decides(kind, path, wheres)]
        if decided:
            found[path] = decided[-1]
    return found


def names_a_norm(path: str) -> bool:
    """Whether it is the path of the kind of a normalization."""
    *above, name = path.split(".")
    return name == "kind" and bool(above) and (above[-1] == "norm" or above[-2:-1] == ["norms_at"])


def where(spec: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """What the spec says at the paths; those it has not are left out."""
    found = {path: _at(spec, path.split(".")) for path in paths}
    return {path: value for path, value in found.items() if value is not _ABSENT}


def as_text(value: Any) -> str:
    """Equal for equal values and for no others: 1 is not true here."""
    return json.dumps(value, sort_keys=True)


_ABSENT = object()


def _walk(path: str, values: list[Any]) -> Iterator[str]:
    if len({as_text(value) for value in values}) < 2:
        return
    if all(isinstance(value, Mapping) for value in values):
        yield from _fields(path, values)
    elif all(isinstance(value, list) and any(isinstance(item, Mapping) for item in value) for value in values):
        if len({len(value) for value in values}) > 1:
            yield path
            return
        for at, items in enumerate(zip(*values, strict=True)):
            yield from _walk(_below(path, str(at)), list(items))
    else:
        yield path


def _fields(path: str, values: list[Mapping[str, Any]]) -> Iterator[str]:
    for key in dict.fromkeys(key for value in values for key in value):
        inner = _below(path, key)
        if _is_missed(key, values):
            yield inner
        else:
            yield from _walk(inner, [value[key] for value in values if key in value])


def _is_missed(key: str, values: list[Mapping[str, Any]]) -> bool:
    """Whether of one kind some have the field and others have not."""
    having = {as_text(value.get("kind")) for value in values if key in value}
    lacking = {as_text(value.get("kind")) for value in values if key not in value}
    return bool(having & lacking)


def _is_said_alike(first: str, path: str, wheres: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two normalizations are of one kind wherever they are."""
    if not names_a_norm(first) or any((first in one) != (path in one) for one in wheres):
        return False
    return all(one.get(first) == one.get(path) for one in wheres)


def _decides(kind: str, path: str, wheres: Sequence[Mapping[str, Any]]) -> bool:
    seen: dict[str, str] = {}
    for one in wheres:
        chosen, value = as_text(one.get(kind)), as_text([path in one, one.get(path)])
        if seen.setdefault(chosen, value) != value:
            return False
    return True


def _at(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, _ABSENT)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _ABSENT
    return value


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
