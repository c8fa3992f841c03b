"""Experiments side by side: grouped by what differs between their specs, with mean and deviation over seeds."""

import importlib
from collections.abc import Iterable
from typing import Any

from client.calls import Calls, several
from client.errors import ClientError, Json
from client.numbers import decoded

_LIBRARIES = ("pandas", "polars")


class ComparisonCalls(Calls):
    """`/v1/comparisons`."""

    def compare(
        self,
        experiments: str | Iterable[str] = (),
        *,
        tags: str | Iterable[str] = (),
        name: str | None = None,
        measures: str | Iterable[str] = (),
        sort: str | None = None,
    ) -> Json:
        """A table of experiments, by their ids or by tags (`key:value`, or `key`) and name: `groups`, sorted.

        `measures` are keys of series, for their last values; `:min`, `:max`, `:first` behind one for others; `best`,
        `steps_to_target`, `seconds`. `sort` is one of them or a path of the specs, with a minus for downwards; by
        default the best come first. Read `warnings` before you believe a mean.
        """
        wanted = {"experiments": several(experiments), "tags": several(tags), "measures": several(measures)}
        asked: Json = {key: value for key, value in wanted.items() if value}
        asked |= {key: value for key, value in (("name", name), ("sort", sort)) if value is not None}
        answer: Json = self._json("POST", "/v1/comparisons", body=asked)
        return {**answer, "groups": [_group(group) for group in answer["groups"]]}

    def frame(
        self,
        experiments: str | Iterable[str] = (),
        *,
        tags: str | Iterable[str] = (),
        name: str | None = None,
        measures: str | Iterable[str] = (),
        library: str | None = None,
    ) -> Any:
        """The same as a data frame with a row a run: id, seed, state, stop reason, where it differs, its measures.

        Of pandas, or polars where only that is installed; `library` names one. Raises `ClientError` without either.
        """
        chosen = _library(library)
        found = self.compare(experiments, tags=tags, name=name, measures=measures)
        return chosen.DataFrame(columns_of(found))


def columns_of(comparison: Json) -> dict[str, list[Any]]:
    """The runs of a comparison by column; what a spec has not, or a run, is None."""
    runs = [(group, run) for group in comparison["groups"] for run in group["runs"]]
    columns: dict[str, list[Any]] = {
        field: [run[field] for _, run in runs] for field in ("id", "seed", "state", "stop_reason")
    }
    columns |= {path: [_cell(group["where"].get(path)) for group, _ in runs] for path in comparison["paths"]}
    columns |= {measure: [run["values"].get(measure) for _, run in runs] for measure in comparison["measures"]}
    return {name: _of_one_type(column) for name, column in columns.items()}


def _of_one_type(column: list[Any]) -> list[Any]:
    """Whole numbers among others as these are, and what else is of several types as text: polars takes no mixture."""
    types = {type(value) for value in column if value is not None}
    if len(types) < 2:
        return column
    as_type = float if types == {int, float} else str
    return [None if value is None else as_type(value) for value in column]


def _library(name: str | None) -> Any:
    if name is not None and name not in _LIBRARIES:
        raise ClientError(f"library is {' or '.join(_LIBRARIES)}")
    for wanted in _LIBRARIES if name is None else (name,):
        try:
            return importlib.import_module(wanted)
        except ModuleNotFoundError as error:
            if error.name != wanted:
                raise  # it is there, and lacks something itself
    missing = name or "neither pandas nor polars"
    raise ClientError(f"{missing} is {'not ' if name else ''}installed here: `pip install {name or 'pandas'}`")


def _cell(value: Any) -> Any:
    """A part of a spec that is no single value, as text: what no column of a frame holds."""
    return str(value) if isinstance(value, dict | list) else value


def _group(group: Json) -> Json:
    runs = [{**run, "values": decoded(run["values"])} for run in group["runs"]]
    return {**group, "measures": decoded(group["measures"]), "runs": runs}
