"""Owners: what they use and may use."""

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, require_admin
from api.lanes import reading
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.owners import Owner, OwnerLimits
from store import owners


class OwnersQuery(Parameters):
    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=512)] | None = Field(default=None, description="Of the page before.")


def mount(app: FastAPI) -> None:
    """`/owners` and the caller's own."""
    routes = KeyedRoutes(app, "/v1/owners", "owners")
    routes.add(
        "",
        list_owners,
        response_model=Page[Owner],
        dependencies=[Depends(require_admin)],
        summary="All owners",
    )
    routes.add("/me", get_own_owner, response_model=Owner, responses=declared(404), summary="Yourself")


@reading
def list_owners(asked: Asked, query: Annotated[OwnersQuery, Depends(Reading(OwnersQuery))]) -> Response:
    """Oldest first, with what they have; needs `admin`."""
    limits = OwnerLimits.of(asked.service.settings)
    with asked.service.database.read() as session:
        found = owners.page(session, query.cursor, query.limit)
        usage = owners.usage(session, [row.id for row in found.rows])
    shown = [Owner.of(row, usage[row.id], limits) for row in found.rows]
    return answer(Page[Owner](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))


@reading
def get_own_owner(asked: Asked) -> Response:
    """Whose key you hold: stored bytes, queued and running jobs, and the limits of all three and of requests."""
    with asked.service.database.read() as session:
        row = owners.find(session, asked.caller.owner)
        usage = owners.usage(session, [row.id])
    return answer(Owner.of(row, usage[row.id], OwnerLimits.of(asked.service.settings)))
