"""Pictures of what a study came to: those of its report, one by one."""

import functools
import hashlib
import json
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI
from starlette.responses import Response

from api.answers import answer
from api.aside.pool import Work
from api.deps import Admitted, Asked, StudyId
from api.drawing import picture
from api.figure_body import Scale, Width
from api.headers import if_none_match_parameter, none_match
from api.lanes import reading
from api.parameters import Parameters, Reading
from api.problems import declared
from api.refusals import FigureNotFound, InvalidParameter
from api.routes.figures import FigureFile, figure_answer, figure_responses
from api.routes.keyed import KeyedRoutes
from api.shown.figures import Figures, ShownFigure
from bncore.figures.results import COLUMN_WIDTH
from bncore.figures.studies import STUDY_FIGURES, allowed
from bncore.studies.figuring import readable
from store import studies
from store.study_errors import NotJudged

_FIGURE = "bncore.figures.studies:figure"


class StudyFigureQuery(Parameters):
    theme: Literal["light", "dark"] = "light"
    width: Width = COLUMN_WIDTH
    scale: Scale = 2.0


def mount(app: FastAPI) -> None:
    """Under a study."""
    routes = KeyedRoutes(app, "/v1/studies/{study_id}", "studies")
    routes.add(
        "/figures",
        list_study_figures,
        response_model=Figures,
        responses=declared(404),
        summary="Which figures there are of what was judged",
    )
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    routes.add(
        "/figures/{figure}",
        get_study_figure,
        response_class=Response,
        responses={**figure_responses(), **unchanged, **declared(404, 409)},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="A figure of it",
    )


@reading
def list_study_figures(study_id: StudyId, asked: Asked) -> Response:
    """Those that its last verdict allows, each with the addresses of its document, page and pictures; none before."""
    try:
        names = [one.name for one in allowed(_judged(asked, study_id))]
    except NotJudged:
        names = []
    shown = [ShownFigure.of(STUDY_FIGURES[name], f"/v1/studies/{study_id}") for name in names]
    return answer(Figures(data=shown))


async def get_study_figure(
    study_id: StudyId,
    figure: FigureFile,
    asked: Asked,
    query: Annotated[StudyFigureQuery, Depends(Reading(StudyFigureQuery))],
) -> Response:
    """A figure by its name and format: `effects`, `measured`, `reaching`, `tuning`, `learning`; those of its report.

    409 before there is a verdict.
    """
    name, _, form = figure.partition(".")
    if name not in STUDY_FIGURES:
        raise FigureNotFound(name, list(STUDY_FIGURES), None, "study")
    if "scale" in query.model_fields_set and form != "png":
        raise InvalidParameter("scale", "Is for the format png")
    number = await asked.service.reads.run(functools.partial(_number, asked, study_id))
    text = json.dumps([study_id, number, figure, query.model_dump(mode="json")])
    headers = {"ETag": f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"', "Cache-Control": "private, no-cache"}
    if none_match(asked.request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    options = {"theme": query.theme, "width": query.width}
    look = {"name": name, "format": form, "scale": query.scale, "options": options}

    async def prepare() -> Work:
        return Work({**look, "judged": await asked.service.long_reads.run(functools.partial(_judged, asked, study_id))})

    drawn = await picture(asked, _FIGURE, prepare, InvalidParameter)
    return figure_answer(drawn, form, f"{name}-{study_id}", headers)


def _number(asked: Admitted, study_id: str) -> int:
    with asked.service.database.read() as session:
        studies.get(session, study_id, owner=asked.sees)
        return studies.verdict(session, study_id).number


def _judged(asked: Admitted, study_id: str) -> dict[str, Any]:
    """What the figures are drawn from. Raises `NotJudged`."""
    with asked.service.database.read() as session:
        row = studies.get(session, study_id, owner=asked.sees)
        last = studies.verdict(session, study_id)
        named = [{**one, "name": readable(one["name"]), "shown_as": readable(one["name"])} for one in last.verdicts]
        series = studies.courses(session, row.design, last.runs) if row.design else []
    return {"verdicts": named, "design": row.design, "runs": last.runs, "series": series}
