"""Where experiments stand in a listing by what one of them has: the best first, the longest that is left, a name.

A sorted listing is a row of parts, one behind another: what has the value, in its order, and then what has none, newest
first in either direction. Equal values stand by age, which ids do as well, in the direction of the sort.

Invariant: a page costs what it holds. Its positions come from an index in the order of the value, or, where filters
leave few, from those few; what changes all the time (`left`, `progress`, `place`) is a value of what runs or waits
alone. On SQLite and PostgreSQL the order is the same: no value is NaN, text is compared by its code points, and what
has no value is a part of its own. A cursor holds the value and the id behind which it goes on, so that rows that come,
go or change meanwhile shift no other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sqlalchemy import literal_column, select

from store.database import Asks, clock
from store.experiments import listing, ranking
from store.experiments.listing import EXPERIMENT, JOB, Filters
from store.experiments.ranking import Key, Rank
from store.jobs.conditions import IS_RUNNING
from store.jobs.states import State

SORTS = {
    "accuracy": "on the test data, at the last evaluation",
    "stop": "the reason that training ended by",
    "submitted": "the oldest first",
    "age": "the newest first",
    "ended": "what ended first",
    "state": "by its name",
    "progress": "the share of its steps that a running one has done",
    "left": "the seconds that a running one has left",
    "place": "in the order in which what waits is claimed",
    "name": "by its code points",
}
"""By name, what each means, upwards."""


@dataclass(frozen=True)
class Order:
    """By what a listing is sorted, and in which direction."""

    name: str
    downwards: bool = False

    def __str__(self) -> str:
        return f"-{self.name}" if self.downwards else self.name


@dataclass(frozen=True)
class Part:
    """A stretch of a sorted listing: the keys of what it holds behind one of them, in order, cut off."""

    kinds: tuple[type, ...]
    """Of the parts of a key, the last of which is the id."""
    read: Callable[[Asks, Key | None, int], list[Key]]


Place = tuple[int, Key]
"""Number of the part, and the key in it."""


def order_of(word: str) -> Order | None:
    """The order of `name`, or of `-name` for downwards; None for one that there is not."""
    name = word.removeprefix("-")
    return Order(name, word.startswith("-")) if name in SORTS else None


def parts_of(filters: Filters, order: Order) -> list[Part]:
    """The parts of a listing; as many for the same filters and order each time."""
    match order.name:
        case "submitted" | "age":
            return [_by_age(filters, oldest_first=(order.name == "age") is order.downwards)]
        case "state":
            states = sorted(filters.states or State, reverse=order.downwards)
            return [_by_age(replace(filters, states=(state,))) for state in dict.fromkeys(states)]
        case "left" | "progress":
            return [*_running(filters, order), *_others(filters, State.RUNNING)]
        case "place":
            return [*_waiting(filters, order), *_others(filters, State.QUEUED)]
        case _:
            few = ranking.Few(filters)
            return [_ranked(few, order, missing=False), _ranked(few, order, missing=True)]


def positions(session: Asks, parts: list[Part], after: Place | None, limit: int) -> list[Place]:
    """Where the rows of a page stand, part by part."""
    found: list[Place] = []
    first, behind = after or (0, None)
    for number, part in enumerate(parts[first:], start=first):
        keys = part.read(session, behind if number == first else None, limit - len(found))
        found += [(number, key) for key in keys]
        if len(found) >= limit:
            break
    return found


def seconds_left(
    at: float, begun_at: float | None, begun_step: int | None, step: int, total_steps: int
) -> float | None:
    """To the last step of what runs, at the pace of its attempt; None before it has one."""
    if begun_at is None or begun_step is None or step <= begun_step:
        return None
    return max(0, total_steps - step) * max(0.0, at - begun_at) / (step - begun_step)


def _by_age(filters: Filters, *, oldest_first: bool = False) -> Part:
    def read(session: Asks, after: Key | None, limit: int) -> list[Key]:
        behind = None if after is None else (after[0], after[1])
        return list(listing.positions(session, filters, behind, limit, oldest_first=oldest_first))

    return Part((float, str), read)


def _others(filters: Filters, state: State) -> list[Part]:
    """What is in no such state, newest first."""
    states = tuple(one for one in filters.states or State if one is not state)
    return [_by_age(replace(filters, states=states))] if states else []


def _ranked(few: ranking.Few, order: Order, *, missing: bool) -> Part:
    rank = ranking.RANKS[order.name]
    return Part(
        rank.kinds[1:] if missing else rank.kinds,
        lambda session, after, limit: ranking.read(
            session, few, Rank(order.name, order.downwards, missing), after, limit
        ),
    )


def _waiting(filters: Filters, order: Order) -> list[Part]:
    if filters.states and State.QUEUED not in filters.states:
        return []
    return [
        Part(
            (int, int, float, str),
            lambda session, after, limit: ranking.waiting(session, filters, order.downwards, after, limit),
        )
    ]


def _running(filters: Filters, order: Order) -> list[Part]:
    """There are as many as there are workers: all are read, and sorted here, by what changes while they are.

    A key begins with the moment of the first page, and all that is left is what was left then: time alone moves no row.
    """
    if filters.states and State.RUNNING not in filters.states:
        return []

    def valued(session: Asks, after: Key | None, limit: int) -> list[Key]:
        rows = _values(session, filters, order.name, None if after is None else after[0])
        keys = ((at, value, one) for at, value, one in rows if value is not None)
        return _cut(keys, after, limit, downwards=order.downwards)

    def others(session: Asks, after: Key | None, limit: int) -> list[Key]:
        keys = ((one,) for _, value, one in _values(session, filters, order.name, None) if value is None)
        return _cut(keys, after, limit, downwards=True)

    return [Part((float, float, str), valued), Part((str,), others)]


_PACES = select(
    clock(), EXPERIMENT.c.begun_at, EXPERIMENT.c.begun_step, EXPERIMENT.c.step, EXPERIMENT.c.total_steps, JOB.id
).where(EXPERIMENT.c.id == JOB.id, IS_RUNNING, JOB.kind == literal_column("'experiment'"))


def _values(session: Asks, filters: Filters, name: str, then: float | None) -> list[tuple[float, float | None, str]]:
    """Moment, value and id of each; `then` is the moment, without one now."""
    statement, bound = ranking.among_jobs(_PACES, filters)
    rows = session.execute(statement, bound).all()
    if name == "left" and rows:
        # One moment for all: PostgreSQL's clock goes on within a statement.
        at = rows[0][0] if then is None else then
        return [(at, seconds_left(at, *pace), one) for _, *pace, one in rows]
    return [(0.0, min(1.0, step / total) if total else 0.0, one) for _, _, _, step, total, one in rows]


def _cut(keys: Iterable[Key], after: Key | None, limit: int, *, downwards: bool) -> list[Key]:
    behind = [key for key in keys if after is None or (key < after if downwards else key > after)]
    return sorted(behind, reverse=downwards)[:limit]
