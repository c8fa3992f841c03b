"""Where on its axes a point of a sweep is, and where the sweep says what is wrong of it.

Invariant: what is wrong of a spec that nobody wrote points to what was written, and names the values that make it so.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bncore.spec.faults import Fault, pointer_part
from bncore.spec.sweep.paths import as_pointer, is_within
from bncore.spec.sweep.spec import SweepSpec

_VALUE_CHARS = 40


@dataclass(frozen=True)
class Place:
    """A point before its spec; `places` are those of its values on their axes."""

    at: dict[str, Any]
    places: dict[str, int]
    arm: str | None


def placed(faults: Sequence[Fault], place: Place, sweep: SweepSpec) -> Iterator[Fault]:
    """The faults of a point's spec, where the sweep says what makes them, named by its values."""
    where = named(place)
    for fault in faults:
        detail = f"{fault.pointer or 'the spec'}: {fault.detail}{where}"
        yield Fault(_origin(fault.pointer, place, sweep), detail, fault.code)


def named(place: Place) -> str:
    """The values of its axes and its arm, behind what is said of it."""
    said = [f"{path} = {_short(value)}" for path, value in place.at.items()]
    said += [f"arm {place.arm}"] if place.arm is not None else []
    return f" (at {', '.join(said)})" if said else ""


def _origin(pointer: str, place: Place, sweep: SweepSpec) -> str:
    within = pointer.strip("/").replace("/", ".")
    for path in place.at:
        if is_within(within, path) or is_within(path, within):
            is_listed = path in place.places and isinstance(sweep.varied[path], list)
            return f"{sweep.above_varied}{pointer_part(path)}" + (f"/{place.places[path]}" if is_listed else "")
    for path in sweep.arms.get(place.arm, {}) if place.arm is not None else ():
        if is_within(within, path) or is_within(path, within):
            return f"/arms{pointer_part(place.arm or '')}{pointer_part(path)}"
    # It is what an axis or arm has done to a part that the template says.
    return f"/template{as_pointer(within)}" if place.arm is None or place.at else f"/arms{pointer_part(place.arm)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 3] + "..."
