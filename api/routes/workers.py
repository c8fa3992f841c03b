"""Who is there to train."""

from fastapi import FastAPI
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked
from api.lanes import reading
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.workers import Worker
from store import experiments


def mount(app: FastAPI) -> None:
    """`/workers`."""
    routes = KeyedRoutes(app, "/v1", "health")
    routes.add("/workers", list_workers, response_model=Page[Worker], summary="Living workers")


async def list_workers(asked: Asked) -> Response:
    """All on one page, the longest there first: what each computes on, what it is at, and what ails it."""
    living = [process for process in await asked.service.readiness.living() if process.kind == "worker"]
    busy = [process.job_id for process in living if process.job_id is not None]
    visible = await _visible(asked=asked, job_ids=busy) if busy else frozenset[str]()
    shown = [Worker.of(process, visible) for process in living]
    return answer(Page[Worker](data=shown, has_more=False, next_cursor=None))


@reading
def _visible(asked: Asked, job_ids: list[str]) -> frozenset[str]:
    """Which of these experiments the caller may know of."""
    with asked.service.database.read() as session:
        return experiments.visible(session, job_ids, owner=asked.sees)
