"""What is done often costs what it finds, however many rows there are: every such statement enters by an index.

The statements are those that the store sends, heard at the engine; a plan that reads or sorts a whole table fails,
before the planner has statistics and after.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from bench.rows import Rows, job_id
from bncore.events import MetricsBlock, Note
from store import (
    checkpoints,
    evaluations,
    experiments,
    files,
    held,
    idempotency,
    predictions,
    purging,
    queueing,
    results,
    retention,
    work,
)
from store.columns import one_of
from store.datasets import changing, completing, finding, uploads, using
from store.datasets import working as datasets_at_work
from store.datasets.uploads import Wanted
from store.evaluations import working as evaluations_at_work
from store.experiments import Filters
from store.files import Announced
from store.idempotency import Scope
from store.jobs import bells, eventlog, leases, reaper, wishes
from store.jobs.leases import Terms
from store.jobs.states import State
from store.jobs.wishes import By
from store.predictions import working as predictions_at_work
from store.queueing import Limits, Submitter
from store.tables import Checkpoint
from tests.store.plans import assert_planned, faults_of_calls, in_session
from tests.store.sweep_calls import sweeps_of

ROWS = Rows(20_000, queued=5_000, running=20, of_one=2_000, others=4_000, a_sweep=10)
OLD, WAITING = job_id(1000), job_id(19_990)
OWNER = By("own_0")
FILTERS = {
    "all": Filters(),
    "an owner's": Filters(owner="own_3"),
    "a state": Filters(states=(State.FAILED,)),
    "an owner's of a state": Filters(owner="own_0", states=(State.FAILED,)),
    "two states": Filters(owner="own_0", states=(State.FAILED, State.CANCELLED)),
    "a tag": Filters(owner="own_3", tags={"arm": "3"}),
    "anybody's tag": Filters(tags={"arm": "3"}),
    "a tag's key": Filters(owner="own_3", tags={"paper": None}),
    "two tags": Filters(tags={"arm": "3", "paper": "p5"}),
    "a name": Filters(owner="own_3", name="run-3"),
    "anybody's name": Filters(name="run-3"),
    "a time": Filters(created_from=1_700_000_100.0, created_before=1_700_000_200.0),
}


def test_what_is_done_often_reads_and_sorts_no_table(lab: Any) -> None:
    unwanted = iter((job_id(10), job_id(30)))
    assert_planned(lab, ROWS, lambda: faults_of_calls(lab, calls(lab, next(unwanted))))


def calls(lab: Any, unwanted: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """What the API, workers and the relay do all day."""

    def reading(call: Callable[..., object]) -> Callable[[], object]:
        return lambda: in_session(lab.database.read(), call)

    def writing(call: Callable[..., object]) -> Callable[[], object]:
        return lambda: in_session(lab.database.write(), call)

    yield "get", reading(lambda session: experiments.get(session, OLD, owner="own_0"))
    yield "look", reading(lambda session: experiments.look(session, OLD, owner="own_0"))
    yield "look at one that waits", reading(lambda session: experiments.look(session, WAITING))
    some = [job_id(number) for number in range(30)]
    there = [job_id(number) for number in range(100, 160)]
    yield "cancel many", writing(lambda session: wishes.ask_all(session, some, "cancel", OWNER))
    yield "delete many", writing(lambda session: wishes.delete_all(session, some, By("own_none")))
    nobodys = Filters(owner="own_none")
    yield "cancel all", writing(lambda session: experiments.cancel_all(session, nobodys, By("own_none"), 1000))
    yield "near", reading(lambda session: experiments.near(session, "own_0", OLD))
    yield "near a name", reading(lambda session: experiments.near(session, "own_0", "run-3"))
    yield "compared", reading(lambda session: experiments.compared(session, there, ["test/accuracy"]))
    yield "marks", reading(lambda session: experiments.marks(session, some))
    for name, filters in FILTERS.items():
        cursor: list[str | None] = [None]

        def page(session: Any, filters: Filters = filters, cursor: list[str | None] = cursor) -> None:
            cursor[0] = experiments.page(session, filters, cursor[0]).next_cursor

        yield f"list {name}", reading(page)
        yield f"list {name}, further", reading(page)
    queued = Filters(states=(State.QUEUED,))
    rows = in_session(lab.database.read(), lambda session: experiments.page(session, queued, limit=100).rows)
    yield "standing", reading(lambda session: experiments.standing(session, rows))
    yield "events", reading(lambda session: eventlog.page(session, ROWS.busiest, after=1000))
    yield "checkpoints", reading(lambda session: checkpoints.listed(session, ROWS.busiest, limit=100))
    behind = (500, "periodic", "many_x")
    yield "checkpoints, further", reading(lambda session: checkpoints.listed(session, ROWS.busiest, behind, 100))
    yield "last values", reading(lambda session: results.last_values(session, OLD))
    yield "points", reading(lambda session: results.series(session, OLD, max_points=10))
    yield "claimable", reading(lambda session: bells.claimable(session, "cpu", 32))
    yield from looks_at_data(reading)
    yield from sweeps_of(reading, writing, int(unwanted.partition("_")[2], 16))
    yield from writes(lab, writing)
    yield from writes_of_data(lab, writing, int(unwanted.partition("_")[2], 16))
    yield "nothing to purge", reading(purging.is_due)
    with lab.database.write() as session:
        experiments.delete(session, unwanted, By(None))
        few = checkpoints.listed(session, ROWS.busiest, limit=10)
        retention.drop(session, one_of(Checkpoint.id, [row.id for row in few]))
    yield "something to purge", reading(purging.is_due)
    for step in range(8):
        yield f"purge {step}", writing(purging.purge)


def looks_at_data(reading: Callable[..., Callable[[], object]]) -> Iterator[tuple[str, Callable[[], object]]]:
    """At data sets, uploads, evaluations and files."""
    dataset, upload, evaluation = job_id(42, "dat"), job_id(40, "upl"), job_id(42, "evl")
    pages: dict[str, Callable[..., Any]] = {
        "data sets": lambda session, at: finding.page(session, "own_2", cursor=at),
        "anybody's data sets": lambda session, at: finding.page(session, None, cursor=at),
        "data sets of a state": lambda session, at: finding.page(session, "own_1", State.CANCELLED, at),
        "anybody's data sets of a state": lambda session, at: finding.page(session, None, State.FAILED, at),
        "evaluations": lambda session, at: evaluations.of_owner(session, "own_2", at),
        "anybody's evaluations": lambda session, at: evaluations.of_owner(session, None, at),
        "evaluations of an experiment": lambda session, at: evaluations.of_experiment(session, job_id(10), at, 2),
    }
    for name, look in pages.items():
        cursor: list[str | None] = [None]

        def page(session: Any, look: Callable[..., Any] = look, cursor: list[str | None] = cursor) -> None:
            cursor[0] = look(session, cursor[0]).next_cursor

        yield f"list {name}", reading(page)
        yield f"list {name}, further", reading(page)
    yield "list uploads", reading(lambda session: uploads.page(session, "own_0", 100))
    yield "upload", reading(lambda session: uploads.get(session, upload, owner="own_0"))
    yield "parts", reading(lambda session: uploads.parts(session, upload))
    yield "data set", reading(lambda session: finding.get(session, dataset, owner="own_2"))
    yield "data set to be read", reading(lambda session: using.readable(session, "own_2", dataset))
    yield "who reads a data set", reading(lambda session: using.users(session, dataset))
    yield "the same data set", reading(lambda session: completing.same(session, "own_2", dataset, "f"))
    yield "evaluation", reading(lambda session: evaluations.get(session, evaluation, owner="own_2"))
    yield "files of a job", reading(lambda session: files.of_job(session, dataset))
    yield "file", reading(lambda session: files.get(session, f"fil_array_{dataset}", owner="own_2"))


def writes_of_data(
    lab: Any, writing: Callable[..., Callable[[], object]], at: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Uploads, imports, evaluations and predictions from their first row to their last; `at`, a multiple of ten, says
    which of the rows that are there are given up."""
    made: dict[str, Any] = {}
    limits, device = Limits(10_000, 10**12), f"other{at}"

    def trained() -> str:
        lab.submit(device=device, owner="own_0")
        lease = lab.claim(device=device).lease
        lab.checkpoint(lease, "last", 5, leases.new_token().encode())
        lab.finish(lease, work.Succeeded("budget", {}))
        return str(lease.job_id)

    def keep(name: str, call: Callable[..., Any]) -> Callable[[], object]:
        return writing(lambda session: made.update({name: call(session)}))

    def ask(session: Any) -> str:
        data = {"kind": "dataset", "id": made["dataset"], "sha256": "0" * 64}
        asked = evaluations.Submission(made["experiment"], "last", {"data": data}, "f")
        return evaluations.submit(session, asked, Submitter("own_0", device), limits)

    def predict(session: Any) -> str:
        return predictions.ask(session, made["experiment"], "best", {}, Submitter("own_0", device), limits)

    wanted = Wanted("n", "n.npz", {}, "f")
    once = leases.new_token()
    yield (
        "begin an upload",
        writing(lambda session: uploads.begin(session, wanted, owner="own_0", idempotency_key=once)),
    )
    yield (
        "begin it again",
        keep("upload", lambda session: uploads.begin(session, wanted, owner="own_0", idempotency_key=once)),
    )
    yield "send a part", lambda: lab.part(made["upload"].id, 1, once.encode(), owner="own_0")
    yield "send it again", lambda: lab.part(made["upload"].id, 1, once.encode(), owner="own_0")
    yield (
        "complete an upload",
        writing(
            lambda session: completing.complete(
                session, made["upload"], whole_of(lab, made["upload"]), sha256(once), device="cpu", limits=limits
            )
        ),
    )
    ended = job_id(31 + at, "evl")
    yield "retry an evaluation", writing(lambda session: queueing.retry(session, ended, By("own_1"), limits))
    yield "prepare an import", writing(lambda session: datasets_at_work.prepare(session, lease_of(made["upload"].id)))
    # Nobody listens while these are made: they are more than one does at a time.
    made.update(dataset=job_id(50, "dat"), experiment=trained())
    yield "find a checkpoint", writing(lambda session: held.find(session, "own_0", f"ckp_{job_id(50)}"))
    yield "evaluate", keep("evaluation", ask)
    yield (
        "prepare an evaluation",
        writing(lambda session: evaluations_at_work.prepare(session, lease_of(made["evaluation"]))),
    )
    yield (
        "conclude an evaluation",
        writing(lambda session: evaluations_at_work.conclude(session, made["evaluation"], {"a": 1})),
    )
    yield (
        "delete an evaluation",
        writing(lambda session: evaluations.delete(session, job_id(20 + at, "evl"), By("own_0"))),
    )
    yield "predict", keep("prediction", predict)
    yield (
        "prepare a prediction",
        writing(lambda session: predictions_at_work.prepare(session, lease_of(made["prediction"]))),
    )
    yield (
        "conclude a prediction",
        writing(lambda session: predictions_at_work.conclude(session, made["prediction"], {"a": 1})),
    )
    yield "forget a prediction", writing(lambda session: predictions.forget(session, made["prediction"]))
    yield "delete a data set", writing(lambda session: changing.delete(session, job_id(50 + at, "dat"), By("own_0")))
    yield "give up an upload", writing(lambda session: uploads.give_up(session, job_id(10 + at, "upl"), owner="own_0"))
    yield "forget uploads", writing(uploads.purge)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def whole_of(lab: Any, upload: Any) -> completing.Whole:
    """An upload put together, in sessions of its own."""
    with lab.database.read() as session:
        parts = uploads.parts(session, upload.id)
    *_, whole = completing.put_together(lab.database, parts)
    return whole


def lease_of(job: str) -> leases.Lease:
    """Of an attempt that nobody makes: preparing one only reads."""
    return leases.Lease(job, 1, "x")


def writes(lab: Any, writing: Callable[..., Callable[[], object]]) -> Iterator[tuple[str, Callable[[], object]]]:
    submission, limits = lab.submission(tags={"a": "b"}), Limits(10_000, 10**12)
    once = {"device": "cpu", "key_id": "key_1", "limits": limits}
    scope = Scope("own_0", "POST", "/v1/experiments", leases.new_token())
    yield "submit", writing(lambda session: idempotency.submit_once(session, scope, submission, **once))
    claimed: list[leases.Lease] = []

    def claim() -> None:
        claimed.append(lab.claim(terms=Terms(60.0, running_per_owner=100)).lease)

    yield "claim", claim
    yield "claim of anybody's", lambda: lab.claim()
    yield "was it claimed", writing(lambda session: leases.claimed(session, "x"))
    yield "renew", writing(lambda session: leases.renew(session, claimed[0]))
    events = [MetricsBlock(first_step=1, count=1, values={"a": [1.0]}), Note(code="x", message="y")]
    yield "append", lambda: lab.append(claimed[0], *events)
    file = Announced("a", "result", None, 1, "0")
    yield "store at once", lambda: lab.store_at_once(claimed[0])
    yield "announce a file", writing(lambda session: files.begin(session, claimed[0], file))
    yield "look", writing(lambda session: reaper.look(session, lease_seconds=60.0, longest_gap_seconds=10.0))
    yield "reap", writing(reaper.reap)
    yield "end overdue", writing(reaper.end_overdue)
    yield "release", lambda: lab.release(claimed[0])
    yield "pause", writing(lambda session: wishes.ask(session, WAITING, "pause", OWNER))
    yield "resume", writing(lambda session: wishes.resume(session, WAITING, OWNER))
    yield "cancel", writing(lambda session: wishes.ask(session, WAITING, "cancel", OWNER))
    yield "retry", writing(lambda session: wishes.retry(session, WAITING, OWNER))
    yield "edit", writing(lambda session: experiments.edit(session, WAITING, OWNER, {"tags": {"c": "d"}}))
