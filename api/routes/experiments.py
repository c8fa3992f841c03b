"""Finding experiments."""

from difflib import get_close_matches
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, ExperimentId, living_lately
from api.filters import FilterQuery
from api.headers import if_none_match_parameter, job_headers, none_match
from api.lanes import reading
from api.parameters import Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.experiments import ExperimentNow, ListedExperiment
from api.shown.waiting import Living
from store import experiments
from store.cursors import MAX_CHARS
from store.errors import CursorInvalid
from store.experiments import MAX_PAGE, SORTS, order_of

_NOTHING = Page[ListedExperiment](data=[], has_more=False, next_cursor=None)


def _order(word: object) -> object:
    if not isinstance(word, str) or order_of(word) is not None:
        return word
    minus = "-" if word.startswith("-") else ""
    close = get_close_matches(word.removeprefix("-").lower(), SORTS, n=1)
    meant = f"did you mean {minus}{close[0]}? There" if close else "there"
    raise PydanticCustomError("unknown_sort", f"Unknown sort; {meant} are {', '.join(SORTS)}, and -NAME for downwards")


class ListQuery(FilterQuery):
    sort: Annotated[str, BeforeValidator(_order)] | None = Field(
        default=None,
        description="Newest first without it. "
        + "; ".join(f"`{name}`: {meaning}" for name, meaning in SORTS.items())
        + ". With a minus, `-accuracy`, downwards. What has no such value comes last either way, newest first.",
    )
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
    cursor: Annotated[str, Field(max_length=MAX_CHARS)] | None = Field(
        default=None, description="`next_cursor` of the page before, with the same filters and the same sort."
    )


def mount(app: FastAPI) -> None:
    """`/experiments` and one of them."""
    routes = KeyedRoutes(app, "/v1/experiments", "experiments")
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    routes.add("", list_experiments, response_model=Page[ListedExperiment], summary="Find them")
    routes.add(
        "/{experiment_id}",
        get_experiment,
        response_model=ExperimentNow,
        responses={**unchanged, **declared(404)},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="One of them",
    )


@living_lately
@reading
def list_experiments(
    asked: Asked, query: Annotated[ListQuery, Depends(Reading(ListQuery))], living: Living
) -> Response:
    """Newest first, or sorted. Pages do not shift when experiments are added meanwhile; one whose value changes may
    move from a page that is to come to one that was, or back.
    """
    filters = query.filters(asked.sees)
    if filters is None:
        if query.cursor is not None:
            raise CursorInvalid
        return answer(_NOTHING)
    with asked.service.database.look() as session:
        order = None if query.sort is None else order_of(query.sort)
        if order is None:
            found = experiments.page(session, filters, query.cursor, query.limit)
        else:
            found = experiments.sorted_page(session, filters, order, query.cursor, query.limit)
        standing = experiments.standing(session, found.rows)
    shown = [ListedExperiment.listed(row, standing, living) for row in found.rows]
    return answer(Page[ListedExperiment](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))


@living_lately
@reading
def get_experiment(experiment_id: ExperimentId, asked: Asked, living: Living) -> Response:
    """State, progress and the complete spec. Send the ETag back in `If-None-Match` to poll for nearly nothing.

    The ETag stands for what is stored. `queue`, `eta_seconds` and `waiting_for` are looked up for each answer and do
    not change it.
    """
    with asked.service.database.look() as session:
        sight = experiments.look(session, experiment_id, owner=asked.sees)
    headers = job_headers(sight.experiment)
    if none_match(asked.request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return answer(ExperimentNow.seen(sight, living), headers=headers)
