"""A sorted listing costs what its page holds, however many experiments there are: it enters by an index, before the
planner has statistics and after."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.rows import Rows
from store import experiments
from store.experiments import SORTS, Filters, Order, ranking
from tests.store.plans import assert_planned, faults_of_postgresql, faults_of_sqlite, heard, in_session
from tests.store.test_plans import FILTERS

ROWS = Rows(10_000, queued=2_000, running=20, of_one=10)
FEW = {"all": FILTERS["all"], "an owner's": FILTERS["an owner's"], "two tags": FILTERS["two tags"]}
"""Of sorts that go along the listing by age, which has its own test, or by what waits and runs."""


def asked(name: str) -> Iterator[tuple[Order, Filters, str]]:
    """A direction each in turn: an index is read from either end alike."""
    chosen = FILTERS if name in ranking.RANKS else FEW
    for number, (said, filters) in enumerate(chosen.items()):
        order = Order(name, downwards=bool(number % 2))
        yield order, filters, f"{said} by {order}"


def pages(lab: Any, order: Order, filters: Filters) -> Callable[[], None]:
    """The first page, and the next."""

    def call() -> None:
        cursor = None
        for _ in range(2):
            after = cursor
            found = in_session(
                lab.database.read(),
                lambda session, after=after: experiments.sorted_page(session, filters, order, after),
            )
            cursor = found.next_cursor
            if cursor is None:
                return

    return call


@pytest.mark.parametrize("few", [ranking.FEW, 0], ids=["few", "many"])
def test_a_sorted_page_reads_and_sorts_no_table(lab: Any, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "FEW", few)
    assert_planned(lab, ROWS, lambda: look_at_plans(lab))


def look_at_plans(lab: Any) -> list[str]:
    is_lite = lab.database.engine.dialect.name == "sqlite"
    found = faults_of_sqlite if is_lite else faults_of_postgresql
    faults, known = [], set()
    for name in SORTS:
        for order, filters, said in asked(name):
            with heard(lab.database) as statements:
                pages(lab, order, filters)()
            with lab.database.engine.connect() as connection:
                for statement, parameters in statements:
                    if statement not in known and not is_of_few(statement, parameters):
                        known.add(statement)
                        faults += [
                            f"{said}: {one}\n    {statement}" for one in found(connection, statement, parameters)
                        ]
    return [one for one in faults if not is_meant(one)]


def is_of_few(statement: str, parameters: Any) -> bool:
    """Those few are found by the listing by age, which has its own test, and sorted after they were entered by ids."""
    given = parameters.values() if isinstance(parameters, dict) else parameters
    return "json_each" in statement or "= ANY(" in statement or ranking.FEW + 1 in given


def is_meant(fault: str) -> bool:
    """What many have is looked up along the way, and what waits is read where a planner finds that cheaper."""
    said = fault.splitlines()[0]
    along = "row by row" in said and not any(word in said for word in ("(owner)", "(submitted_by)", "(kind)"))
    return along or "ix_jobs_waiting" in said
