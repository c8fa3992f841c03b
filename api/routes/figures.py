"""Pictures of results: which there are, one of an experiment, one of several."""

import functools
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Path
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.bodies import body
from api.deps import Asked, ExperimentId
from api.drawing import Look, Material, draw, material, recorded_kinds
from api.figure_body import MOST_EXPERIMENTS, MOST_PIXELS, FigureOfSeveral, Log, Scale, Width
from api.filters import FilterQuery
from api.headers import if_none_match_parameter, none_match
from api.lanes import reading
from api.openapi import model_body
from api.parameters import Parameters, PlainText, Reading
from api.problems import declared
from api.refusals import ApiError, InvalidBody, InvalidParameter
from api.routes.keyed import KeyedRoutes
from api.shown.figures import Figures, ShownFigure
from bncore.figures import FIGURES, allowed
from bncore.figures.curves import MOST_SERIES
from bncore.figures.results import COLUMN_WIDTH
from bncore.spec import Fault
from store import experiments, results, tables
from store.errors import ExperimentNotFound

_MEDIA = {"json": "application/vnd.vegalite.v5+json", "html": "text/html", "svg": "image/svg+xml", "png": "image/png"}
_NO_ADDRESS = "default-src 'none'; frame-ancestors 'none'"
# The page's own script draws; it reaches nothing, and has no origin whose keys it could use.
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "frame-ancestors 'none'; sandbox allow-scripts allow-downloads"
)

FigureFile = Annotated[str, Path(pattern="^[a-z_]{1,64}[.](json|html|svg|png)$", examples=["curves.png"])]


class FigureQuery(Parameters):
    keys: list[Annotated[PlainText, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=MOST_SERIES, description="Series of `curves`; repeat it for several."
    )
    theme: Literal["light", "dark"] = "light"
    width: Width = COLUMN_WIDTH
    scale: Scale = 2.0
    log_y: Log = False


def mount(app: FastAPI) -> None:
    """Under an experiment, and by themselves."""
    routes = KeyedRoutes(app, "/v1", "results")
    under = "/experiments/{experiment_id}/figures"
    routes.add(under, list_figures, response_model=Figures, responses=declared(404), summary="Which figures there are")
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    routes.add(
        under + "/{figure}",
        get_figure,
        response_class=Response,
        responses={**figure_responses(), **unchanged, **declared(404, 410)},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="A figure",
    )
    routes.add(
        "/figures",
        draw_figure,
        methods=["POST"],
        response_class=Response,
        responses={**figure_responses(), **declared(404, 410, 413, 415)},
        openapi_extra={"requestBody": model_body(FigureOfSeveral)},
        summary="A figure of several experiments",
    )


@reading
def list_figures(experiment_id: ExperimentId, asked: Asked) -> Response:
    """Those that its results allow so far, each with the addresses of its document, page and pictures."""
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        keys = results.keys_of(session, [experiment_id])
        kinds = recorded_kinds(session, experiment_id)
    return answer(
        Figures(data=[ShownFigure.of(one, f"/v1/experiments/{experiment_id}") for one in allowed(keys, kinds)])
    )


async def get_figure(
    experiment_id: ExperimentId,
    figure: FigureFile,
    asked: Asked,
    query: Annotated[FigureQuery, Depends(Reading(FigureQuery))],
) -> Response:
    """A figure by its name and format: the Vega-Lite document with its data, a page by itself, or a picture."""
    name, _, form = figure.partition(".")

    def find() -> Material:
        with asked.service.database.read() as session:
            row = experiments.get(session, experiment_id, owner=asked.sees)
            return material(session, [row], name, query.keys, InvalidParameter)

    wanted = await asked.service.reads.run(find)
    _require_fitting(name, form, query, InvalidParameter)
    look = _look(query, form, wanted)
    headers = {"ETag": wanted.tag(look), "Cache-Control": "private, no-cache"}
    if none_match(asked.request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return figure_answer(await draw(asked, wanted, look, InvalidParameter), form, f"{name}-{experiment_id}", headers)


async def draw_figure(asked: Asked, wanted: Annotated[FigureOfSeveral, Depends(body(FigureOfSeveral))]) -> Response:
    """Several experiments by their ids or by a tag, in one figure: at most 200. It changes nothing."""
    if wanted.name not in FIGURES:
        raise _refuse_body("name", f"Must be one of {', '.join(FIGURES)}")
    if (wanted.experiments is None) == (wanted.tag is None):
        raise _refuse_body("experiments", "Give either ids here, or a `tag`")
    _require_fitting(wanted.name, wanted.format, wanted, _refuse_body)
    found = await asked.service.reads.run(functools.partial(_find, asked, wanted))
    look = _look(wanted, wanted.format, found)
    return figure_answer(await draw(asked, found, look, _refuse_body), wanted.format, wanted.name, {})


def _find(asked: Asked, wanted: FigureOfSeveral) -> Material:
    with asked.service.database.read() as session:
        if wanted.tag is not None:
            rows = _tagged(asked, session, wanted.tags)
        else:
            rows = []
            for number, one in enumerate(dict.fromkeys(wanted.experiments or ())):
                try:
                    rows.append(experiments.get(session, one, owner=asked.sees))
                except ExperimentNotFound:
                    raise _refuse_body(f"experiments/{number}", "There is no such experiment") from None
        return material(session, rows, wanted.name, wanted.keys, _refuse_body)


def _tagged(asked: Asked, session: Session, tags: list[str]) -> list[tables.Experiment]:
    filters = FilterQuery(tag=tags).filters(asked.sees)
    ids = [] if filters is None else experiments.ids(session, filters, MOST_EXPERIMENTS + 1)
    if not ids:
        raise _refuse_body("tag", "No experiment has it; each says its tags by GET /v1/experiments/{id}")
    if len(ids) > MOST_EXPERIMENTS:
        raise _refuse_body("tag", f"More than {MOST_EXPERIMENTS} experiments have it; name some of them by their ids")
    # Listings are newest first; arms stand in the order in which they were asked for.
    return [experiments.get(session, one, owner=asked.sees) for one in reversed(ids)]


def _require_fitting(name: str, form: str, said: FigureQuery | FigureOfSeveral, refuse: Any) -> None:
    """Nothing that is asked for is left out without a word."""
    given = said.model_fields_set
    for field in ("keys", "log_y", "traces"):
        if field in given and name != "curves":
            raise refuse(field, "Is for the figure curves")
    if "scale" in given and form != "png":
        raise refuse("scale", "Is for the format png")
    if form == "png" and said.scale * said.width > MOST_PIXELS:
        most = MOST_PIXELS / said.width
        raise refuse("scale", f"A PNG has at most {MOST_PIXELS:,} pixels across: at this width use {most:.4g} or less")


def _look(said: FigureQuery | FigureOfSeveral, form: str, found: Material) -> Look:
    traces = said.traces if isinstance(said, FigureOfSeveral) else False
    options = {"theme": said.theme, "width": said.width, "keys": found.keys, "log_y": said.log_y, "traces": traces}
    return {"format": form, "scale": said.scale, "options": options}


def figure_answer(content: bytes, form: str, name: str, headers: dict[str, str]) -> Response:
    policy = PAGE_POLICY if form == "html" else _NO_ADDRESS + ("; style-src 'unsafe-inline'" if form == "svg" else "")
    shown = {"Content-Disposition": f'inline; filename="{name}.{form}"', "Content-Security-Policy": policy}
    return Response(content, headers={**headers, **shown}, media_type=_MEDIA[form])


def _refuse_body(field: str, detail: str) -> ApiError:
    return InvalidBody([Fault(f"/{field}", detail, "not_allowed")])


def figure_responses() -> dict[int | str, dict[str, Any]]:
    text, binary = {"schema": {"type": "string"}}, {"schema": {"type": "string", "format": "binary"}}
    content = {
        media: {"schema": {"type": "object"}} if form == "json" else binary if form == "png" else text
        for form, media in _MEDIA.items()
    }
    return {200: {"description": "The figure", "content": content}}
