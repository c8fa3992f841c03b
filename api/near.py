"""What a 404 of an experiment says besides: which id was looked for, and what of its owner's is near.

Invariant: what was sent is repeated only where it has the form of an id, and a look that fails takes nothing from the
answer.
"""

import contextlib
import functools
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request

from api.lanes import DatabaseSilent
from store import experiments
from store.experiments import Near

_LONGEST_NAME = 200
FORM = "The id of an experiment is exp_ and 32 hexadecimal digits"


async def hint(request: Request, wanted: str) -> tuple[str, dict[str, Any]]:
    """The end of the sentence, and the fact for programs. Nothing for a caller without a good key."""
    found = await _near(request, wanted)
    if not found:
        return "", {}
    shown = ", ".join(f"{one.id} ({one.name})" if one.name else one.id for one in found)
    return f"; near is {shown}", {"near": [vars(one) for one in found]}


async def _near(request: Request, wanted: str) -> list[Near]:
    asked: Any = request.scope.get("state", {}).get("asked")
    if asked is None or len(wanted) > _LONGEST_NAME or not wanted.isprintable():
        return []
    with contextlib.suppress(SQLAlchemyError, DatabaseSilent):
        found: list[Near] = await asked.service.reads.run(functools.partial(_look, asked, wanted))
        return found
    return []


def _look(asked: Any, wanted: str) -> list[Near]:
    with asked.service.database.look() as session:
        return experiments.near(session, asked.caller.owner, wanted)
