"""What may have been meant by an id that is none: the owner's experiments of about that time, or of that name.

Invariant: nothing of another owner is ever near, and a look costs two stretches of an index, each cut off.
"""

import re
from dataclasses import dataclass

from sqlalchemy import bindparam, literal_column, select, text

from store.columns import core
from store.database import Asks
from store.jobs.conditions import IS_VISIBLE
from store.tables import Experiment, Job
from store.tables.jobs import ANY_STATE

MOST_NEAR = 3
_MOST_LOOKED_AT = 200
_ID = re.compile(r"(?:exp_)?([0-9a-f]{6,32})", re.ASCII)
_TIME_DIGITS = 12
"""An id begins with the milliseconds of its making (UUIDv7), in so many hexadecimal digits."""
_ALIKE = 10
"""Digits that two ids have in common before one may be a slip for the other: made within a few seconds."""
_CLOCKS_DIFFER_SECONDS = 5.0

_JOB, _EXPERIMENT = core(Job).c, core(Experiment).c
_OF_A_TIME = (
    select(_JOB.id, _EXPERIMENT.name)
    .join_from(core(Job), core(Experiment), _EXPERIMENT.id == _JOB.id)
    .where(_JOB.kind == literal_column("'experiment'"), _JOB.owner == bindparam("owner"), IS_VISIBLE, text(ANY_STATE))
    .where(_JOB.created_at.between(bindparam("begins"), bindparam("ends")))
    .order_by(_JOB.created_at, _JOB.id)
    .limit(_MOST_LOOKED_AT)
)
_OF_A_NAME = (
    select(_EXPERIMENT.id, _EXPERIMENT.name)
    .join_from(core(Experiment), core(Job), _EXPERIMENT.id == _JOB.id)
    .where(_EXPERIMENT.submitted_by == bindparam("owner"), _EXPERIMENT.name == bindparam("name"), IS_VISIBLE)
    .order_by(_EXPERIMENT.submitted_at.desc(), _EXPERIMENT.id.desc())
    .limit(MOST_NEAR)
)


@dataclass(frozen=True)
class Near:
    """An experiment that may have been meant."""

    id: str
    name: str | None


def near(session: Asks, owner: str, wanted: str) -> list[Near]:
    """At most three; those whose ids begin most like it first, or the newest of that name."""
    found = _ID.fullmatch(wanted)
    if found is None:
        return [Near(*row) for row in session.execute(_OF_A_NAME, {"owner": owner, "name": wanted}).all()]
    digits = found[1]
    first, last = (int(digits[:_TIME_DIGITS].ljust(_TIME_DIGITS, fill), 16) / 1000 for fill in "0f")
    # Of a whole id the last digits of the time may be the slip.
    first, last = (min(first, _around(digits, "0")), max(last, _around(digits, "f")))
    span = {"begins": first - _CLOCKS_DIFFER_SECONDS, "ends": last + _CLOCKS_DIFFER_SECONDS}
    rows = [Near(*row) for row in session.execute(_OF_A_TIME, {"owner": owner, **span}).all()]
    alike = {row.id: _in_common(row.id[4:], digits) for row in rows}
    least = min(len(digits), _ALIKE)
    close = sorted((row for row in rows if alike[row.id] >= least), key=lambda row: -alike[row.id])
    return close[:MOST_NEAR]


def _in_common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other))


def _around(digits: str, fill: str) -> float:
    return int(digits[:_ALIKE].ljust(_TIME_DIGITS, fill), 16) / 1000
