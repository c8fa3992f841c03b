"""Sorted listings are those that sorting all rows by hand gives, page by page, on both databases."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import MetaData, insert, select

from bncore.events import MetricsBlock
from store import cursors, experiments, migrate, work
from store.columns import core
from store.database import create_engine_for
from store.errors import CursorInvalid
from store.experiments import SORTS, Filters, Order, order_of, ranking
from store.jobs.states import State
from store.tables import Experiment

TABLE = core(Experiment)
NAMES = (None, "b", "B", "a_b", "ab", "a b", "ä", "Z", "\U0001d518", "x" * 199 + "é", "")
REASONS = (None, None, "budget", "target_reached", "diverged")
FILTERS = {
    "all": Filters(),
    "own": Filters(owner="own_1"),
    "state": Filters(owner="own_1", states=(State.SUCCEEDED, State.RUNNING, State.QUEUED)),
    "tag": Filters(owner="own_1", tags={"arm": "1"}),
    "key": Filters(tags={"arm": None}),
    "tags": Filters(tags={"arm": "1", "paper": "p"}),
    "name": Filters(owner="own_1", name="b"),
    "time": Filters(created_from=1_000_010.0, created_before=1_000_050.0),
    "free": Filters(owner="own_1", of_no_study=True),
}


@pytest.fixture
def rows(lab: Any) -> list[Experiment]:
    """Some sixty, many of which have equal values or none."""
    chance = random.Random(7)
    for number in range(60):
        tags = {"arm": str(number % 3)} | ({"paper": "p"} if number % 2 else {}) if number % 5 else {}
        one = lab.submit(owner=f"own_{1 + number % 3 // 2}", device=chance.choice(["cpu", "cuda"]), tags=tags)
        state = chance.choice(list(State))
        begun = {"begun_at": 900_000.0 - number, "begun_step": chance.choice([0, None])}
        lab.change(
            one,
            state=state,
            name=chance.choice(NAMES),
            stop_reason=chance.choice(REASONS),
            accuracy=chance.choice([None, 0.0, 0.1, 0.25, 0.25, 1.0, 1 / 3]),
            finished_at=1_000_100.0 + chance.randrange(9) if state.value in ("succeeded", "failed") else None,
            created_at=1_000_000.0 + number,
            submitted_at=1_000_000.0 + number,
            priority=chance.choice([-1, 0, 0, 5]),
            turn=number // 4,
            step=chance.choice([0, 7, 1000, 2000]),
            deleted_at=1.0 if number in (5, 50) else None,
            **begun,
        )
    with lab.database.read() as session:
        ids = session.scalars(select(TABLE.c.id)).all()
        return [row for row in (_row(session, one) for one in ids) if row is not None]


def _row(session: Any, one: str) -> Experiment | None:
    return session.get(Experiment, one)


def by_hand(rows: list[Experiment], filters: Filters, order: Order) -> list[str]:
    """All of them, sorted by Python: what has the value, in its order, and then what has none, newest first."""
    found = [row for row in rows if row.deleted_at is None and asked_for(row, filters)]
    if order.name == "state":
        found.sort(key=lambda row: row.created_at, reverse=True)
        return [row.id for row in sorted(found, key=lambda row: row.state.value, reverse=order.downwards)]
    there = [(key, row.id) for row in found if (key := value_of(row, order.name)) is not None]
    newest = sorted((row for row in found if value_of(row, order.name) is None), key=lambda row: row.id, reverse=True)
    if order.name == "left":
        # What runs, and has no pace yet, before what does not run.
        newest.sort(key=lambda row: row.state is not State.RUNNING)
    upwards = order.name == "age"
    return [one for _, one in sorted(there, reverse=order.downwards is not upwards)] + [row.id for row in newest]


def value_of(row: Experiment, name: str) -> Any:
    match name:
        case "submitted" | "age":
            return row.created_at
        case "left":
            runs = row.state is State.RUNNING and row.begun_step is not None and row.step > row.begun_step
            # In the order of what is left at any moment that is far enough away.
            return (2000 - row.step) / row.step * (2_000_000_000.0 - row.begun_at) if runs else None
        case "progress":
            return row.step / row.total_steps if row.state is State.RUNNING else None
        case "place":
            return (-row.priority, row.turn, row.created_at) if row.state is State.QUEUED else None
        case "name":
            return None if row.name is None else (row.name, row.submitted_at)
        case _:
            column = {"stop": "stop_reason", "ended": "finished_at", "accuracy": "accuracy"}[name]
            return getattr(row, column)


def asked_for(row: Experiment, filters: Filters) -> bool:
    return (
        filters.owner in (None, row.owner)
        and (not filters.states or row.state in filters.states)
        and all(key in row.tags and value in (None, row.tags[key]) for key, value in filters.tags.items())
        and filters.name in (None, row.name)
        and (filters.created_from is None or row.created_at >= filters.created_from)
        and (filters.created_before is None or row.created_at < filters.created_before)
    )


def pages(lab: Any, filters: Filters, order: Order, limit: int) -> Iterator[list[str]]:
    cursor = None
    while True:
        with lab.database.read() as session:
            found = experiments.sorted_page(session, filters, order, cursor, limit)
        yield [row.id for row in found.rows]
        cursor = found.next_cursor
        if cursor is None:
            return


@pytest.mark.parametrize("few", [ranking.FEW, 0], ids=["few", "many"])
def test_pages_together_are_what_sorting_by_hand_gives(
    lab: Any, rows: list[Experiment], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether what filters find is sorted, or an index is gone along and looked up what else is asked."""
    monkeypatch.setattr(ranking, "FEW", few)
    for said, filters in FILTERS.items():
        for name in SORTS:
            for order in (Order(name), Order(name, downwards=True)):
                expected = by_hand(rows, filters, order)
                assert len(expected) > 1, (said, order)
                found = [one for page in pages(lab, filters, order, 9) for one in page]
                assert found == expected, (said, str(order))


def test_what_does_not_change_is_on_exactly_one_page_while_others_come_go_and_change(
    lab: Any, rows: list[Experiment]
) -> None:
    for word in ("-accuracy", "accuracy", "name", "-ended", "stop"):
        order = order_of(word)
        assert order is not None
        before, seen, touched = by_hand(rows, Filters(), order), [], set()
        for number, page in enumerate(pages(lab, Filters(), order, 6)):
            seen += page
            come = lab.submit(name="m")
            lab.change(come, accuracy=0.2, submitted_at=1_000_000.5, created_at=1_000_000.5)
            # The one that the cursor stands on, one before it and one behind it.
            places = [min(len(before) - 1, max(0, len(seen) + by)) for by in (-1, -4, 3)]
            mine = [before[place] for place in places]
            lab.change(mine[0], accuracy=0.15, name="c", finished_at=1_000_104.5, stop_reason="budget")
            with lab.database.write() as session:
                session.execute(TABLE.update().where(TABLE.c.id == mine[-1]).values(accuracy=None))
            touched |= {come, *mine}
            assert number < 40
        left = [one for one in before if one not in touched]
        assert [one for one in seen if one in set(left)] == left, word
        with lab.database.read() as session:
            rows = [row for row in map(lambda one: _row(session, one), {*before, *touched}) if row is not None]


def test_a_cursor_of_another_sort_is_refused_in_a_sentence(lab: Any) -> None:
    for _ in range(3):
        lab.submit()

    def cursor(sort: str | None, after: str | None = None, **filters: Any) -> str:
        with lab.database.read() as session:
            if sort is None:
                found = experiments.page(session, Filters(**filters), after, 1)
            else:
                found = experiments.sorted_page(session, Filters(**filters), order_of(sort), after, 1)
        assert found.next_cursor is not None
        return found.next_cursor

    assert cursor("-name", cursor("-name"))
    with pytest.raises(CursorInvalid, match="belongs to a listing sorted by -name, and this one is sorted by name"):
        cursor("name", cursor("-name"))
    with pytest.raises(CursorInvalid, match="belongs to a listing sorted by accuracy, and this one is in the order of"):
        cursor(None, cursor("accuracy"))
    with pytest.raises(CursorInvalid, match="belongs to a listing in the order of age, and this one is sorted by left"):
        cursor("left", cursor(None))
    with pytest.raises(CursorInvalid, match="malformed or belongs to other filters"):
        cursor("name", cursor("name"), owner="own_1")


KINDS = ((float, str), (str,))


@pytest.mark.parametrize(
    "place",
    [(2, ("x",)), (-1, ("x",)), (0, ("x",)), (0, (1, "x")), (0, (float("nan"), "x")), (0, (float("inf"), "x")),
     (0, ("1.0", "x")), (1, ("a\x00b",)), (1, ("é",)), (True, ("x",)), (1, ("x", "y"))],
)  # fmt: skip
def test_a_made_up_place_is_refused(place: Any) -> None:
    with pytest.raises(CursorInvalid):
        cursors.decode_sorted(cursors.encode_sorted(place, "name", []), "name", KINDS, [])
    assert cursors.decode_sorted(cursors.encode_sorted((0, (0.5, "x")), "name", []), "name", KINDS, []) == (
        0, (0.5, "x"),
    )  # fmt: skip


def accuracy(lab: Any, one: str) -> float | None:
    return lab.get(one).accuracy


def measured(step: int, *values: float) -> MetricsBlock:
    return MetricsBlock(first_step=step, count=len(values), values={"test/accuracy": list(values), "x": list(values)})


def test_the_accuracy_is_that_of_the_last_evaluation_whatever_happens_to_the_run(lab: Any) -> None:
    lease = lab.running()
    one = lease.job_id
    assert accuracy(lab, one) is None
    lab.append(lease, measured(1, 0.25, 0.5))
    assert accuracy(lab, one) == 0.5
    lab.checkpoint(lease, "last", 2)
    lab.append(lease, MetricsBlock(first_step=3, count=1, values={"train/loss": [9.0]}))
    assert accuracy(lab, one) == 0.5
    lab.append(lease, measured(3, 0.75))
    # What comes a second time changes nothing.
    lab.append(lease, measured(1, 0.25, 0.5))
    assert accuracy(lab, one) == 0.75
    lab.append(lease, measured(4, float("nan")))
    assert accuracy(lab, one) is None
    lab.release(lease)
    again = lab.claim()
    # Back at the checkpoint, as the series are.
    assert (accuracy(lab, one), lab.points(one, "test/accuracy")[1]) == (0.5, [0.25, 0.5])
    lab.finish(again.lease, work.Succeeded("budget", {"test_accuracy": 0.875}))
    assert accuracy(lab, one) == 0.875


def test_without_a_checkpoint_nothing_is_left_of_it(lab: Any) -> None:
    lease = lab.running()
    lab.append(lease, measured(1, 0.25))
    lab.release(lease)
    lab.claim()
    assert accuracy(lab, lease.job_id) is None


@pytest.mark.parametrize("said", [None, "NaN", float("nan"), float("inf")])
def test_what_is_no_number_is_no_accuracy(lab: Any, said: Any) -> None:
    lease = lab.running()
    lab.finish(lease, work.Succeeded("diverged", {"test_accuracy": said}))
    assert accuracy(lab, lease.job_id) is None


def test_accuracies_are_there_after_the_upgrade(empty_url: str) -> None:
    """Of what had ended from its summary, of what had not from its series."""
    migrate.upgrade(empty_url, revision="0013")
    engine, tables = create_engine_for(empty_url), MetaData()
    tables.reflect(engine)
    cases: dict[str, tuple[Any, float | None, float | None]] = {
        "exp_a": ({"test_accuracy": 0.5}, 0.25, 0.5),
        "exp_b": (None, 0.25, 0.25),
        "exp_c": ({"test_accuracy": "NaN"}, None, None),
        "exp_d": ({"test_accuracy": None}, None, None),
        "exp_e": ({"test_accuracy": 1}, None, 1.0),
        "exp_f": (None, None, None),
        "exp_g": ({"steps": 3}, 0.125, 0.125),
    }
    job = {"kind": "experiment", "owner": "own_1", "state": "queued", "version": 1, "queue": "cpu", "priority": 0}
    job |= {"turn": 0, "attempt": 0, "restarts": 0, "max_restarts": 0, "last_event": 0, "paused_seconds": 0.0}
    row = {"submitted_by": "own_1", "submitted_at": 1.0, "name": "n", "tags": {}, "spec": {}, "spec_version": 1}
    row |= {"fingerprint": "f", "step": 0, "total_steps": 1}
    series = {"key": "test/accuracy", "count": 1, "first_step": 1, "last_step": 1, "nonfinite": 0}
    with engine.begin() as connection:
        for one, (summary, last, _) in cases.items():
            connection.execute(insert(tables.tables["jobs"]).values(id=one, created_at=1.0, queued_at=1.0, **job))
            connection.execute(insert(tables.tables["experiments"]).values(id=one, summary=summary, **row))
            if last is not None:
                points = {"experiment_id": one, "last": last, **series}
                connection.execute(insert(tables.tables["metric_series"]).values(**points))
    migrate.upgrade(empty_url)
    with engine.connect() as connection:
        found = {one: value for one, value in connection.execute(select(TABLE.c.id, TABLE.c.accuracy))}
    engine.dispose()
    assert found == {one: expected for one, (_, _, expected) in cases.items()}
    migrate.downgrade(empty_url, revision="0013")
    migrate.upgrade(empty_url)
    migrate.check(empty_url)


def test_every_sort_has_a_name_and_a_direction() -> None:
    for name in SORTS:
        assert order_of(name) == Order(name)
        assert str(order_of(f"-{name}")) == f"-{name}"
    assert order_of("--name") is order_of("") is order_of("beauty") is None
