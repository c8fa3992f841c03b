"""How an experiment stands, and waiting until that changes."""

import functools
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, ExperimentId, living_lately
from api.headers import if_none_match_parameter, job_headers, none_match
from api.long_poll import Found, WaitQuery, found_in_time
from api.parameters import Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.results import Results
from api.shown.waiting import Living
from store import checkpoint_pages, experiments, recordings, results

_MOST_CHECKPOINTS = 20
_WARNINGS = "diagnostics/norm_health/warnings"


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}", "results")
    responses: dict[int | str, dict[str, Any]] = {**declared(404), 304: {"description": "Nothing has changed"}}
    routes.add(
        "/results",
        get_results,
        response_model=Results,
        responses=responses,
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="Results, at once or on change",
    )


@living_lately
async def get_results(
    experiment_id: ExperimentId,
    asked: Asked,
    query: Annotated[WaitQuery, Depends(Reading(WaitQuery))],
    living: Living,
) -> Response:
    """State, progress, summary, the newest value of every metric and the newest checkpoints; complete at any time.

    What is left out of the checkpoints is at `links.checkpoints`.
    """
    return await found_in_time(asked, experiment_id, functools.partial(_read, asked, experiment_id, living), query.wait)


def _read(asked: Asked, experiment_id: str, living: Living) -> Found:
    with asked.service.database.read() as session:
        sight = experiments.look(session, experiment_id, owner=asked.sees)
        series = results.summaries(session, experiment_id)
        checkpoints = checkpoint_pages.newest(session, experiment_id, _MOST_CHECKPOINTS)
        # What counts them says whether there is a line to look for.
        warned = any(found.key == _WARNINGS and found.last > 0 for found in series)
        warnings = recordings.norm_warnings(session, experiment_id) if warned else ()
    row = sight.experiment
    shown = Results.of(sight, series, checkpoints, warnings, living)
    headers = job_headers(row)
    if none_match(asked.request, headers["ETag"]):
        return Found(row.version, shown.is_terminal, Response(status_code=304, headers=headers))
    return Found(row.version, shown.is_terminal, answer(shown, headers=headers))
