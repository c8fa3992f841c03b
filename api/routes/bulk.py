"""What is asked of all experiments that a listing would show.

Invariant: nobody ends everything by leaving something out: without a filter it takes `all=true`. A call changes a
bounded number, in one transaction.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import structlog
from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked
from api.filters import FilterQuery
from api.lanes import writing
from api.parameters import Reading
from api.refusals import InvalidParameter
from api.routes.keyed import KeyedRoutes
from api.shown.experiments import Changed
from store import experiments
from store.experiments import Filters
from store.jobs.states import TERMINAL, State
from store.jobs.wishes import By

_LOG = structlog.get_logger("api")
_MOST = 1000
_LIVING = frozenset(State) - TERMINAL


class BulkQuery(FilterQuery):
    all: bool = Field(default=False, description="Needed where no filter is given.")


Query = Annotated[BulkQuery, Depends(Reading(BulkQuery))]


def mount(app: FastAPI) -> None:
    """Beside the listing."""
    routes = KeyedRoutes(app, "/v1", "experiments")
    for action, route, summary in (
        ("cancel", cancel_experiments, "End all that a filter finds"),
        ("delete", delete_experiments, "Delete all that a filter finds and that have ended"),
    ):
        routes.add(
            f"/experiments:{action}",
            route,
            methods=["POST"],
            response_model=Changed,
            summary=summary,
        )


@writing
def cancel_experiments(asked: Asked, query: Query) -> Response:
    """The filters of the listing; at most 1,000 a call, the newest first: repeat it while `more` is true."""
    return _changed(asked, query, "cancel", _LIVING, experiments.cancel_all)


@writing
def delete_experiments(asked: Asked, query: Query) -> Response:
    """The filters of the listing; at most 1,000 a call, the newest first: repeat it while `more` is true.

    What a study is judged by is left: it goes with the study.
    """
    return _changed(asked, query, "delete", TERMINAL, experiments.delete_all, apart=True)


def _changed(
    asked: Asked,
    query: BulkQuery,
    action: str,
    states: frozenset[State],
    change: Callable[[Session, Filters, By, int], int],
    *,
    apart: bool = False,
) -> Response:
    if not query.all and not query.model_fields_set - {"all"}:
        raise InvalidParameter("all", "Give a filter, or all=true")
    filters = query.filters(asked.sees, states)
    if filters is None:
        return answer(Changed(changed=0, more=False))
    with asked.service.database.write() as session:
        found = experiments.ids(session, replace(filters, of_no_study=apart), _MOST + 1)
        changed = change(session, filters, By(asked.sees, asked.caller.id), _MOST)
    _LOG.info("experiments_changed", action=action, count=changed)
    # Those that have been asked already are found again, and must not keep anybody asking for ever.
    return answer(Changed(changed=changed, more=changed > 0 and len(found) > _MOST))
