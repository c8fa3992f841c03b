"""What diagnostics recorded: which there are, and the numbers of one, thinned where they are many."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from api.shown import Real, Shown
from api.shown.files import File
from bncore.recording import Recording, Site, kind_in
from store import tables

Array = NDArray[Any]


class RecordedFile(Shown):
    """One measurement."""

    step: int
    id: str = Field(description="Of its file: `/v1/files/{id}`.")
    size: int
    sha256: str


class Diagnostic(Shown):
    """A diagnostic, and when it measured."""

    kind: str
    steps: list[int]
    files: list[RecordedFile]
    numbers: str = Field(description="Where the numbers of the newest one are; `?step=` has another.")


class DiagnosticList(Shown):
    data: list[Diagnostic]

    @classmethod
    def of(cls, experiment_id: str, rows: Sequence[tables.File]) -> "DiagnosticList":
        base = f"/v1/experiments/{experiment_id}/diagnostics"
        return cls(data=[_diagnostic(base, kind, list(found)) for kind, found in groupby(rows, _kind_of)])


class RecordedSite(Shown):
    """A place in the network."""

    name: str
    depth: int = Field(description="Layers with weights up to it; 0 is the input.")
    role: str = Field(description="weights, before_norm, after_norm, activation, norm, output, ...")

    @classmethod
    def of(cls, site: Site) -> "RecordedSite":
        return cls(name=site.name, depth=site.depth, role=site.role)


class RecordedArray(Shown):
    """Numbers along named axes; the axis `site` is `sites`."""

    axes: list[str]
    unit: str | None
    shape: list[int] = Field(description="Of all there are.")
    kept: dict[str, list[int]] = Field(description="Of an axis that was thinned, which places are shown.")
    values: Any = Field(description="Nested lists; numbers that are not finite are words.")


class Recorded(Shown):
    """What one diagnostic found at one step."""

    kind: str
    step: int = Field(description="Optimizer steps before it; 0 is at initialization.")
    file: File
    sites: list[RecordedSite]
    scalars: dict[str, Real]
    units: dict[str, str] = Field(description="Of arrays and scalars, where they have one.")
    arrays: dict[str, RecordedArray]
    notes: list[str] = Field(description="What was not measured, or on a part only, and why, in words.")

    @classmethod
    def of(cls, row: tables.File, recording: Recording, max_values: int) -> "Recorded":
        return cls(
            kind=recording.kind,
            step=recording.step,
            file=File.of(row),
            sites=[RecordedSite.of(site) for site in recording.sites],
            scalars=dict(recording.scalars),
            units=dict(recording.units),
            notes=list(recording.notes),
            arrays={name: _array(recording, name, max_values) for name in recording.arrays},
        )


def _diagnostic(base: str, kind: str, rows: Sequence[tables.File]) -> Diagnostic:
    files = [RecordedFile(step=row.step or 0, id=row.id, size=row.size, sha256=row.sha256) for row in rows]
    return Diagnostic(kind=kind, steps=[file.step for file in files], files=files, numbers=f"{base}/{kind}")


def _kind_of(row: tables.File) -> str:
    return kind_in(row.name)


def _array(recording: Recording, name: str, most: int) -> RecordedArray:
    array, axes = recording.arrays[name], recording.axes[name]
    kept = dict(_kept(array.shape, most))
    shown = array
    for axis, places in kept.items():
        shown = shown.take(places, axis=axis)
    return RecordedArray(
        axes=list(axes),
        unit=recording.units.get(name),
        shape=list(array.shape),
        kept={axes[axis]: places.tolist() for axis, places in kept.items()},
        values=_listed(shown),
    )


def _kept(shape: tuple[int, ...], most: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Of the longest axes as few places as are needed, evenly and with both ends."""
    count = math.prod(shape)
    for axis in sorted(range(len(shape)), key=lambda axis: -shape[axis]):
        if count <= most:
            return
        left = max(2, shape[axis] * most // count)
        if left < shape[axis]:
            yield axis, np.linspace(0, shape[axis] - 1, left).round().astype(np.intp)
            count = count // shape[axis] * left


def _listed(array: Array) -> Any:
    if not np.issubdtype(array.dtype, np.floating) or np.isfinite(array).all():
        return array.tolist()
    words = array.astype(object)
    words[np.isnan(array)] = "NaN"
    words[np.isposinf(array)] = "Infinity"
    words[np.isneginf(array)] = "-Infinity"
    return words.tolist()
