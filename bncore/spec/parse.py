"""From bytes to a spec: JSON read strictly, then validated."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

from pydantic import ValidationError

from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import MAX_FAULTS, Fault, SpecError, faults_of, pointer_part
from bncore.spec.plan import Plan, plan_parts

MAX_DEPTH = 64
"""Deeper than any spec by far, shallow enough for every recursive reader behind this one."""

MAX_VALUES = 10_000
"""Of objects, lists and scalars in one body (an empty list counts twice): many times the largest spec, and what any
later step may walk over."""

# The closing quote is optional so that a string without an end is read once, not again from each quote inside it.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DEPTH_CHANGE = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


@dataclass(frozen=True)
class _Repeat:
    """Holds its object, whose id is therefore no other's."""

    owner: dict[str, Any]
    key: str


def parse_json(body: bytes | str) -> Any:
    """The value of a JSON text in UTF-8.

    Raises `SpecError`, with pointer "" unless a field can be named, for text that is no JSON, a repeated key, more than
    64 levels of nesting or 10,000 values, or broken UTF-8. NaN, Infinity and numbers too large for a double are read as
    such, so that validation can name the field they stand in.
    """
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _unreadable("Must be UTF-8", "not_utf8") from None
    _refuse_too_much(raw)
    repeats: dict[int, _Repeat] = {}
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, repeats), parse_int=_whole_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _unreadable(f"Must be JSON; reading failed at {where}", "not_json") from None
    if repeats:
        raise SpecError(list(islice(_repeated_keys(value, "", repeats), MAX_FAULTS)))
    return value


def load_spec(value: Any) -> ExperimentSpec:
    """The complete spec of a parsed document. Raises `SpecError` that names every field at fault."""
    if not isinstance(value, dict):
        raise _unreadable("Must be an object", "not_an_object")
    try:
        return ExperimentSpec.model_validate(value)
    except ValidationError as error:
        raise SpecError(faults_of(error, ExperimentSpec)) from None


def up_to_date(spec: dict[str, Any]) -> dict[str, Any]:
    """A stored spec with the fields that there were not yet when it was stored, at their defaults, which it was trained
    with; one that is valid no more as it stands.
    """
    try:
        return load_spec(spec).model_dump(mode="json")
    except SpecError:
        return spec


def plan(spec: ExperimentSpec) -> Plan:
    """What the spec amounts to: layers with output shapes and parameters, steps, sizes."""
    return plan_parts(spec.data, spec.network, spec.train)


def _unreadable(detail: str, code: str) -> SpecError:
    return SpecError([Fault("", detail, code)])


def _refuse_too_much(raw: bytes) -> None:
    """Before anything is built from it: what comes after costs as much as there are values."""
    # A value has at most its key and itself in quotes; those behind a backslash may be part of a text.
    if raw.count(b'"') - raw.count(b'\\"') > 4 * MAX_VALUES:
        raise _too_many_values()
    structure = _STRING.sub(b"", raw)
    brackets = structure.translate(None, _ALL_BUT_BRACKETS)
    if max(accumulate(map(_DEPTH_CHANGE.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise _unreadable(f"Must not be nested more than {MAX_DEPTH} levels deep", "too_deep")
    # A value is the first of its list or object, or it stands behind a comma.
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > MAX_VALUES:
        raise _too_many_values()


def _too_many_values() -> SpecError:
    return _unreadable(f"Must not hold more than {MAX_VALUES:,} values", "too_many_values")


def _object(pairs: list[tuple[str, Any]], repeats: dict[int, _Repeat]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        repeats[id(value)] = _Repeat(value, next(key for key, count in counts.items() if count > 1))
    return value


def _repeated_keys(value: Any, pointer: str, repeats: Mapping[int, _Repeat]) -> Iterator[Fault]:
    """Where the objects with repeated keys lie: the reader knows the object, only a walk knows the way to it."""
    repeat = repeats.get(id(value))
    if repeat is not None:
        yield Fault(pointer + pointer_part(repeat.key), "Is given twice; which one counts is unclear", "repeated_key")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from _repeated_keys(inner, pointer + pointer_part(key), repeats)


def _whole_number(digits: str) -> int | float:
    # Python refuses to convert thousands of digits; as an infinity the number is refused where it stands.
    return int(digits) if len(digits) <= 400 else float("inf")
