"""What is made of results in a process of its own: each function takes a JSON object and bytes, and gives bytes.

`packed` is its other side: results as such an object and such bytes.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from bncore.figures.registry import draw
from bncore.figures.results import FigureRefused, Options, Result, Results, Steps, Values
from bncore.recording import Recording, RecordingDamaged, from_bytes

Packed = tuple[list[dict[str, Any]], list[bytes]]
"""Experiments as JSON, and the bytes that they name by their place."""


def figure(asked: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
    """A figure: `name`, `options` (fields of `Options`), `format`, `scale`,
    `affordable_seconds`, `experiments`. Raises `FigureRefused`."""
    from bncore.figures.drawing import drawn

    options = Options(**{**asked["options"], "keys": tuple(asked["options"].get("keys", ()))})
    document = draw(asked["name"], _unpacked(asked["experiments"], blobs), options)
    return drawn(document, asked["format"], asked["scale"], asked["affordable_seconds"])


def metrics_table(asked: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
    """The series of one experiment as a table: `format`, `experiments`."""
    from bncore.figures import tables

    (result,) = _unpacked(asked["experiments"], blobs).values()
    return tables.of_series(result.series, asked["format"])


def recordings_table(asked: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
    """Recordings of one kind as a table: `format`, and their files as bytes. Raises `FigureRefused`."""
    from bncore.figures import tables

    return tables.of_recordings([_recording(blob) for blob in blobs], asked["format"])


def columns_table(asked: Mapping[str, Any], _blobs: Sequence[bytes]) -> bytes:
    """Columns of one length as a Parquet file: `columns`, lists of numbers or of texts by their names."""
    from bncore.figures import tables

    return tables.of_columns(asked["columns"])


def packed(
    specs: Mapping[str, Mapping[str, Any]],
    series: Mapping[str, Mapping[str, tuple[Steps, Values]]],
    recordings: Mapping[str, Mapping[str, Sequence[bytes]]],
    unfinished: Collection[str] = (),
) -> Packed:
    """Of each experiment its spec, its series and the files of its recordings by kind, and which have not ended."""
    blobs: list[bytes] = []

    def placed(*parts: bytes) -> list[int]:
        blobs.extend(parts)
        return list(range(len(blobs) - len(parts), len(blobs)))

    experiments = [
        {
            "id": one,
            "spec": spec,
            "series": {
                key: placed(steps.astype("<i8").tobytes(), values.astype("<f8").tobytes())
                for key, (steps, values) in series.get(one, {}).items()
            },
            "recordings": {kind: placed(*files) for kind, files in recordings.get(one, {}).items()},
            "ended": one not in unfinished,
        }
        for one, spec in specs.items()
    ]
    return experiments, blobs


def _unpacked(experiments: Sequence[Mapping[str, Any]], blobs: Sequence[bytes]) -> Results:
    def series(places: Sequence[int]) -> tuple[Steps, Values]:
        steps, values = places
        return np.frombuffer(blobs[steps], dtype="<i8"), np.frombuffer(blobs[values], dtype="<f8")

    def read(places: Sequence[int]) -> list[Recording]:
        return sorted((_recording(blobs[place]) for place in places), key=lambda one: one.step)

    return {
        one["id"]: Result(
            one["spec"],
            {key: series(places) for key, places in one["series"].items()},
            {kind: read(places) for kind, places in one["recordings"].items()},
            one["ended"],
        )
        for one in experiments
    }


def _recording(content: bytes) -> Recording:
    try:
        return from_bytes(content)
    except RecordingDamaged as error:
        raise FigureRefused("recording_damaged", str(error)) from error
