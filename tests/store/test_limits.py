"""How much one owner may have, and how long words may be."""

import random
from typing import Any

import pytest
from sqlalchemy import String, func, select

from bncore.events import MetricsBlock, Note
from bncore.spec import ExperimentSpec, load_spec
from bncore.spec.limits import IDEMPOTENCY_KEY_CHARS, METRIC_KEY_CHARS, NAME_CHARS, TAG_KEY_CHARS, TAG_VALUE_CHARS
from store import checkpoints, experiments, idempotency, keys, owners, processes, purging, work
from store.errors import QuotaExceeded
from store.idempotency import Scope
from store.jobs.leases import Terms
from store.jobs.wishes import By
from store.processes import Heartbeat
from store.queueing import Limits
from store.tables import Content, ExperimentTag, IdempotencyKey, MetricSegment, MetricSeries, Table

# Four bytes each in UTF-8: limits count characters.
WIDE = "\N{GRINNING FACE}"


@pytest.fixture
def owner(lab: Any) -> str:
    with lab.database.write() as session:
        return owners.create(session, "team")


def test_an_owner_may_have_so_many_jobs_in_the_queue(lab: Any, owner: str) -> None:
    limits = Limits(queued_jobs=3)

    def submit(count: int, whose: str = owner) -> None:
        with lab.database.write() as session:
            experiments.submit_many(session, [lab.submission()] * count, owner=whose, device="cpu", limits=limits)

    submit(2)
    with pytest.raises(QuotaExceeded) as caught:
        submit(2)
    assert (caught.value.what, caught.value.limit) == ("queued_jobs", 3)
    submit(3, "own_other")
    submit(1)
    with pytest.raises(QuotaExceeded):
        submit(1)
    lab.claim()
    submit(1)
    assert len(lab.everything()["jobs"]) == 7


def test_an_owner_may_have_so_many_running_and_others_are_not_held_up(lab: Any) -> None:
    for whose in ("A", "A", "A", "B", "B"):
        lab.submit(owner=whose)
    terms = Terms(60.0, running_per_owner=2)
    taken = [lab.claim(terms=terms) for _ in range(5)]
    assert [lab.get(claim.lease.job_id).owner for claim in taken if claim] == ["A", "B", "A", "B"]
    assert taken[-1] is None
    lab.finish(taken[0].lease, work.Succeeded("budget", {}))
    claim = lab.claim(terms=terms)
    assert lab.get(claim.lease.job_id).owner == "A"


def test_an_owner_may_store_so_much(lab: Any, owner: str, saved: Any) -> None:
    lease = lab.running(owner=owner)
    with lab.database.write() as session:
        checkpoints.begin(session, lease, saved("last", 1, b"w" * 60, b"s" * 40), owner_bytes=200)
        # Announced again, it counts once.
        checkpoints.begin(session, lease, saved("last", 1, b"w" * 60, b"s" * 40), owner_bytes=200)
        checkpoints.begin(session, lease, saved("best", 1, b"w" * 100, None), owner_bytes=200)
    with lab.database.write() as session, pytest.raises(QuotaExceeded) as caught:
        checkpoints.begin(session, lease, saved("best", 2, b"w", None), owner_bytes=200)
    assert (caught.value.what, caught.value.limit) == ("stored_bytes", 200)
    with lab.database.write() as session, pytest.raises(QuotaExceeded):
        experiments.submit(session, lab.submission(), owner=owner, device="cpu", limits=Limits(stored_bytes=200))
    with lab.database.read() as session:
        assert owners.find(session, owner).stored_bytes == 200


@pytest.mark.parametrize("seed", range(3))
def test_stored_bytes_are_those_of_the_contents_there_are(lab: Any, owner: str, saved: Any, seed: int) -> None:
    dice = random.Random(seed)
    with lab.database.write() as session:
        other = owners.create(session, "others")
    running = [lab.running(owner=whose) for whose in (owner, other, owner)]
    ended: list[str] = []
    for step in range(1, 30):
        act = dice.choice(["store", "store", "begin", "end", "delete", "purge"])
        lease = dice.choice(running) if running else None
        if act == "store" and lease:
            lab.checkpoint(lease, dice.choice(["best", "last"]), step, b"w" * dice.randrange(99))
        elif act == "begin" and lease:
            with lab.database.write() as session:
                checkpoints.begin(session, lease, saved("last", step, b"w" * dice.randrange(99)))
        elif act == "end" and lease:
            running.remove(lease)
            ended.append(lab.finish(lease, work.Failed("trainer_error", "Broke.")).id)
        elif act == "delete" and ended:
            with lab.database.write() as session:
                experiments.delete(session, ended.pop(), By(None))
        elif act == "purge":
            with lab.database.write() as session:
                purging.purge(session)
        assert counted(lab) == stored(lab)


def counted(lab: Any) -> dict[str, int]:
    with lab.database.read() as session:
        return {one.id: one.stored_bytes for one in owners.list_all(session) if one.stored_bytes}


def stored(lab: Any) -> dict[str, int]:
    with lab.database.read() as session:
        rows = session.execute(select(Content.owner, func.sum(Content.size)).group_by(Content.owner))
        return {owner: int(total) for owner, total in rows if total}


def test_columns_are_as_long_as_the_schema_allows() -> None:
    schema = ExperimentSpec.model_json_schema()["properties"]
    tags = schema["tags"]
    metrics = MetricsBlock.model_json_schema()["properties"]["values"]
    allowed = {
        "experiments.name": schema["name"]["anyOf"][0]["maxLength"],
        "experiment_tags.key": tags["propertyNames"]["maxLength"],
        "experiment_tags.value": tags["additionalProperties"]["maxLength"],
        "metric_series.key": metrics["propertyNames"]["maxLength"],
        "metric_segments.key": metrics["propertyNames"]["maxLength"],
        "idempotency_keys.key": IDEMPOTENCY_KEY_CHARS,
    }
    assert {name: length(name) for name in allowed} == allowed


def length(name: str) -> int | None:
    table, column = name.split(".")
    kind = Table.metadata.tables[table].c[column].type
    assert isinstance(kind, String)
    return kind.length


def test_what_is_as_long_as_may_be_can_be_stored(lab: Any) -> None:
    tags = {WIDE * TAG_KEY_CHARS: WIDE * TAG_VALUE_CHARS}
    spec = load_spec({"name": WIDE * NAME_CHARS, "tags": tags})
    submission = experiments.Submission.of(spec)
    scope = Scope("own_1", "POST", "/v1/experiments", "k" * IDEMPOTENCY_KEY_CHARS)
    with lab.database.write() as session:
        made = idempotency.submit_once(session, scope, submission, device="cpu").experiment
        key = keys.create(session, WIDE * 1000)
        owners.create(session, WIDE * 1000)
        said = {"device_model": WIDE * 1000, "trouble": WIDE * 1000}
        processes.beat(session, Heartbeat("prc_1", "worker", "h" * 1000, 1, **said))
    lease = lab.claim(device_model=WIDE * 1000, torch_version="v" * 1000).lease
    lab.append(
        lease,
        MetricsBlock(first_step=1, count=1, values={WIDE * METRIC_KEY_CHARS: [1.0]}),
        Note(code="c" * 1000, message="m" * 100_000),
    )
    lab.release(lease)
    # Who was pinned by a name that was cut is known by the name that is cut.
    again = lab.claim(device_model=WIDE * 1000, torch_version="v" * 1000)
    assert (again.lease.job_id, again.not_bit_exact) == (made.id, None)
    row = lab.finish(again.lease, work.Failed("f" * 1000, "Because."))
    assert (row.name, row.tags, len(row.failure_code) <= 64) == (spec.name, tags, True)
    with lab.database.read() as session:
        assert len(keys.get(session, key.id).name) <= NAME_CHARS
        for table in (ExperimentTag, IdempotencyKey, MetricSeries):
            assert session.execute(select(func.count()).select_from(table)).scalar_one() == (table is not MetricSeries)
        assert session.execute(select(func.count()).select_from(MetricSegment)).scalar_one() == 0
