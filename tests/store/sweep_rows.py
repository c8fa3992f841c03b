"""How a sweep stands, for the tests of what takes it further."""

from typing import Any

from store import sweeps
from store.jobs.states import State


def rows_of(lab: Any, sweep: Any) -> list[Any]:
    with lab.database.read() as session:
        return sweeps.members(session, sweep.id, limit=1000).rows


def now(lab: Any, sweep: Any) -> Any:
    with lab.database.read() as session:
        return sweeps.get(session, sweep.id)


def state(lab: Any, sweep: Any) -> State:
    with lab.database.read() as session:
        return sweeps.state_of(sweeps.get(session, sweep.id), sweeps.standing(session, sweep.id))
