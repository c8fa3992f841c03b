"""Pictures of a sweep: its learning curves, and what its points came to over its axes."""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.aside.pool import Work
from api.deps import Admitted, Asked, SweepId
from api.drawing import Material, draw, material, picture
from api.figure_body import MOST_EXPERIMENTS, Log, Scale, Width
from api.headers import if_none_match_parameter, none_match
from api.lanes import reading
from api.parameters import Parameters, PlainText, Reading
from api.problems import declared
from api.refusals import FigureNotFound, InvalidParameter
from api.routes.figures import FigureFile, figure_answer, figure_responses
from api.routes.keyed import KeyedRoutes
from api.shown.figures import Figures, ShownFigure
from api.sweep_table import larger_is_better, table_of
from bncore.comparison import Cell, Group
from bncore.figures import FIGURES, Options
from bncore.figures.curves import MOST_SERIES
from bncore.figures.results import COLUMN_WIDTH
from bncore.figures.sweeps import SWEEP_FIGURES
from bncore.figures.theme import most_lines
from bncore.spec.limits import METRIC_KEY_CHARS
from store import experiments, results, sweeps, tables
from store.sweeps import MeasuredPoint

_FIGURE = "bncore.figures.sweeps:figure"
_CURVES = "curves"
_FEW = 7
"""Points whose curves are shown where there are more than can be told apart."""
_Name = Annotated[PlainText, Field(min_length=1, max_length=METRIC_KEY_CHARS + 8)]
_Axis = Annotated[PlainText, Field(min_length=1, max_length=200)]


class SweepFigureQuery(Parameters):
    measure: _Name | None = Field(
        default=None,
        description="One of those of results; without it the usual one. Of `curves`: whose best are shown.",
    )
    x: _Axis | None = Field(default=None, description="An axis, of `sensitivity` and `heat_map`; else the first.")
    y: _Axis | None = Field(default=None, description="Another axis, of `heat_map`; else the next.")
    keys: list[Annotated[PlainText, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=MOST_SERIES, description="Series of `curves`; repeat it for several."
    )
    theme: Literal["light", "dark"] = "light"
    width: Width = COLUMN_WIDTH
    scale: Scale = 2.0
    log_y: Log = False


def mount(app: FastAPI) -> None:
    """Under a sweep."""
    routes = KeyedRoutes(app, "/v1/sweeps/{sweep_id}", "sweeps")
    routes.add(
        "/figures",
        list_sweep_figures,
        response_model=Figures,
        responses=declared(404),
        summary="Which figures there are of it",
    )
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    routes.add(
        "/figures/{figure}",
        get_sweep_figure,
        response_class=Response,
        responses={**figure_responses(), **unchanged, **declared(404, 410)},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="A figure of it",
    )


@reading
def list_sweep_figures(sweep_id: SweepId, asked: Asked) -> Response:
    """Those that its axes and results allow so far, each with the addresses of its document, page and pictures."""
    with asked.service.database.read() as session:
        names = _allowed(session, sweeps.get(session, sweep_id, owner=asked.sees))
    figures = [FIGURES[name] if name == _CURVES else SWEEP_FIGURES[name] for name in names]
    return answer(Figures(data=[ShownFigure.of(one, f"/v1/sweeps/{sweep_id}") for one in figures]))


async def get_sweep_figure(
    sweep_id: SweepId,
    figure: FigureFile,
    asked: Asked,
    query: Annotated[SweepFigureQuery, Depends(Reading(SweepFigureQuery))],
) -> Response:
    """A figure by its name and format: `curves` (the mean over seeds of each point), `sensitivity`, `heat_map`,
    `parallel_coordinates`.

    A point of which a seed diverged, or has no such number, is shown as lost, and never as the mean of the others.
    """
    name, _, form = figure.partition(".")
    _require_fitting(name, form, query)
    mark = await asked.service.reads.run(functools.partial(_mark, asked, sweep_id))
    text = json.dumps([sweep_id, mark, figure, query.model_dump(mode="json")])
    headers = {"ETag": f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"', "Cache-Control": "private, no-cache"}
    if none_match(asked.request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    options: dict[str, Any] = {"theme": query.theme, "width": query.width}
    if name == _CURVES:
        wanted, note = await asked.service.long_reads.run(functools.partial(_curves, asked, sweep_id, query))
        options |= {"keys": wanted.keys, "log_y": query.log_y, "note": note}
        look = {"format": form, "scale": query.scale, "options": options}
        drawn = await draw(asked, wanted, look, InvalidParameter)
    else:
        look = {"name": name, "format": form, "scale": query.scale, "options": options}

        async def prepare() -> Work:
            return Work(
                {**look, **await asked.service.long_reads.run(functools.partial(_table, asked, sweep_id, query))}
            )

        drawn = await picture(asked, _FIGURE, prepare, InvalidParameter)
    return figure_answer(drawn, form, f"{name}-{sweep_id}", headers)


def _require_fitting(name: str, form: str, query: SweepFigureQuery) -> None:
    """Nothing that is asked for is left out without a word."""
    takes = {_CURVES: {"keys", "log_y"}, **{one.name: set(one.takes) for one in SWEEP_FIGURES.values()}}
    if name not in takes:
        raise FigureNotFound(name, list(takes), None, "sweep")
    for field in ("keys", "log_y", "x", "y"):
        if field in query.model_fields_set and field not in takes[name]:
            raise InvalidParameter(
                field, f"Is for the figure {' and '.join(one for one in takes if field in takes[one])}"
            )
    if "scale" in query.model_fields_set and form != "png":
        raise InvalidParameter("scale", "Is for the format png")


def _mark(asked: Admitted, sweep_id: str) -> str:
    with asked.service.database.read() as session:
        row = sweeps.get(session, sweep_id, owner=asked.sees)
        return str(sweeps.mark_of(row, sweeps.standing(session, sweep_id)).version)


def _allowed(session: Session, row: tables.Sweep) -> list[str]:
    _, grouped = table_of(session, row, [], "measure")
    runs = [run for point, _ in grouped for run in point.runs]
    varied = [path for path in sweeps.axes_of(row) if len({json.dumps(point.values[path]) for point, _ in grouped}) > 1]
    curves = [_CURVES] if any(run.series for run in runs) else []
    if not any(run.ended for run in runs):
        return curves
    has_arms = len(row.spec["arms"]) > 1
    needs = {"sensitivity": len(varied) >= 1, "heat_map": len(varied) >= 2}
    needs["parallel_coordinates"] = bool(varied) or has_arms
    return [*curves, *(name for name, is_there in needs.items() if is_there)]


def _table(asked: Admitted, sweep_id: str, query: SweepFigureQuery) -> dict[str, Any]:
    """What `bncore.figures.sweeps.figure` is told of the sweep."""
    with asked.service.database.read() as session:
        row = sweeps.get(session, sweep_id, owner=asked.sees)
        chosen, grouped = table_of(session, row, [query.measure] if query.measure else [], "measure")
    measure = chosen[0]
    runs = [run for point, _ in grouped for run in point.runs]
    table = {
        "axes": sweeps.axes_of(row),
        "arms": list(row.spec["arms"]),
        "measure": measure.name,
        "larger_is_better": larger_is_better(measure, runs),
        "points": [_point(point, group, group.cells[measure.name]) for point, group in grouped],
    }
    axes = {name: axis for name, axis in (("x", query.x), ("y", query.y)) if axis is not None}
    return {"sweep": table, "axes": axes}


def _point(point: MeasuredPoint, group: Group, cell: Cell) -> dict[str, Any]:
    return {
        "point": point.number,
        "values": point.values,
        "arm": point.arm,
        "numbers": list(cell.values.values()),
        "lost": len(group.ended) - cell.n,
        "unfinished": sum(group.unfinished.values()),
        "pruned_at": point.pruned_at,
    }


def _curves(asked: Admitted, sweep_id: str, query: SweepFigureQuery) -> tuple[Material, str]:
    """The experiments whose curves are shown, and what is to be said of the others."""
    with asked.service.database.read() as session:
        row = sweeps.get(session, sweep_id, owner=asked.sees)
        chosen, grouped = table_of(session, row, [query.measure] if query.measure else [], "measure")
        most = most_lines(Options())
        note = ""
        if len(grouped) > most or sum(len(point.runs) for point, _ in grouped) > MOST_EXPERIMENTS:
            runs = [run for point, _ in grouped for run in point.runs]
            few = max(1, min(_FEW, MOST_EXPERIMENTS // max(1, len(row.seeds))))
            note = f"The best {few} of {len(grouped)} points by {chosen[0].name}."
            grouped = _best(grouped, chosen[0].name, larger_is_better(chosen[0], runs))[:few]
        note += _said_of_pruned(grouped)
        if len(row.seeds) > MOST_EXPERIMENTS:
            note += f" Of {len(row.seeds)} seeds the first {MOST_EXPERIMENTS}."
        ids = [run.id for point, _ in grouped for run in point.runs][:MOST_EXPERIMENTS]
        rows = [experiments.get(session, one, owner=asked.sees) for one in ids]
        if not results.keys_of(session, ids):
            raise FigureNotFound(_CURVES, [], None, "sweep")
        return material(session, rows, _CURVES, query.keys, InvalidParameter), note.strip()


def _said_of_pruned(shown: Sequence[tuple[MeasuredPoint, Group]]) -> str:
    gone = sum(point.pruned_at is not None for point, _ in shown)
    return f" {gone} of {len(shown)} points shown were pruned: their curves end early." if gone else ""


def _best(
    grouped: Sequence[tuple[MeasuredPoint, Group]], measure: str, larger: bool
) -> list[tuple[MeasuredPoint, Group]]:
    """Those with numbers in all seeds first, the best before others."""

    def order(one: tuple[MeasuredPoint, Group]) -> tuple[bool, float]:
        point, group = one
        cell = group.cells[measure]
        mean = cell.mean
        return mean is None or cell.n < len(point.runs), (0.0 if mean is None else -mean if larger else mean)

    return sorted(grouped, key=order)
