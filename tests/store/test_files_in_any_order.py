"""Files after any sequence of what happens to them: what is there is what a model says, and nothing is left in the end.

The model says which files and checkpoints can be read, what is in them, and how many bytes each owner has: exactly when
everything is purged, between two bounds before. It learns ids from the store, and whether bytes were found again.
"""

import contextlib
import hashlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy import select

from store import checkpoints, experiments, files, orphans, owners, purging, work
from store.errors import FileIncomplete, FileNotFound
from store.files import Announced, Begun
from store.jobs.leases import Lease
from store.jobs.wishes import By
from store.tables import Checkpoint, File, Owner
from tests.store.conftest import checkpoint_saved

# A thousand steps and more where the system is tested, half of them on each database; a quarter of that else.
STEPS = 50
pytestmark = pytest.mark.timeout(600)
MIB = files.CHUNK_BYTES
# Few, so that the same ones come again; one has two chunks.
DATA = st.sampled_from((b"", b"a", b"bb", b"c" * 70, b"d" * (MIB + 3)))
OWNERS = st.sampled_from(("one", "two"))
PICK, KIND = st.integers(0, 99), st.sampled_from(("best", "last"))


@dataclass(eq=False)
class Bytes:
    """What is stored once."""

    owner: str
    data: bytes
    shared: bool = False
    """Whether a file that is announced now would refer to it."""


@dataclass(eq=False)
class Kept:
    """A file that is not dropped."""

    id: str
    owner: str
    data: bytes
    bytes: Bytes
    job: str | None = None
    name: str = ""
    whole: bool = False
    sent: int = 0


@dataclass(eq=False)
class Saved:
    """A checkpoint that is not dropped."""

    id: str
    attempt: int
    kind: str
    step: int
    files: dict[str, Kept]
    whole: bool = False


@dataclass(eq=False)
class Run:
    """A job."""

    owner: str
    lease: Lease
    step: int = 0
    ended: bool = False
    saved: list[Saved] = field(default_factory=list)


class AnyOrder(RuleBasedStateMachine):
    def __init__(self, lab: Any, steps: list[int]) -> None:
        super().__init__()
        self.lab, self.steps = lab, steps
        self.kept: dict[str, Kept] = {}
        self.runs: list[Run] = []
        self.stored: list[Bytes] = []
        """All that were not purged for certain."""
        self.ids: dict[str, str] = {}

    @initialize()
    def make_owners(self) -> None:
        with self.lab.database.write() as session:
            self.ids = {name: owners.create(session, name) for name in ("one", "two")}

    @precondition(lambda self: sum(not run.ended for run in self.runs) < 3)
    @rule(owner=OWNERS)
    def begin_a_job(self, owner: str) -> None:
        self.runs.append(Run(owner, self.lab.running(owner=self.ids[owner])))

    @precondition(lambda self: self.working)
    @rule(pick=PICK, data=DATA, name=st.sampled_from(("x", "y")))
    def announce(self, pick: int, data: bytes, name: str) -> None:
        run = some(self.working, pick)
        with self.lab.database.write() as session:
            begun = files.begin(session, run.lease, said(name, "result", data))
        job = run.lease.job_id
        known = [one for one in self.kept.values() if (one.job, one.name, one.data) == (job, name, data)]
        if known:
            assert begun == Begun(known[0].id, known[0].whole)
        else:
            self.keep(begun, run.owner, data, job, name)

    @rule(owner=OWNERS, data=DATA)
    def announce_an_upload(self, owner: str, data: bytes) -> None:
        with self.lab.database.write() as session:
            begun = files.begin_of(session, self.ids[owner], said("upload", "source", data))
        self.keep(begun, owner, data)

    @precondition(lambda self: self.unfinished)
    @rule(pick=PICK, most=st.integers(1, 2))
    def send(self, pick: int, most: int) -> None:
        """All of it, or one chunk of two."""
        self.send_some(some(self.unfinished, pick), most)

    @precondition(lambda self: self.unfinished)
    @rule(pick=PICK)
    def complete(self, pick: int) -> None:
        file = some(self.unfinished, pick)
        run = self.run_of(file)
        digest = files.digest(self.lab.database, file.id)
        try:
            with self.lab.database.write() as session:
                if run is None:
                    files.complete_of(session, self.ids[file.owner], file.id, digest)
                else:
                    files.complete(session, run.lease, file.id, digest)
        except FileIncomplete:
            assert file.sent < len(file.data)
            return
        assert file.sent == len(file.data)
        self.become_whole(file)
        if run is not None:
            self.forget([one for one in self.kept.values() if (one.job, one.name) == (file.job, file.name)], but=file)

    @precondition(lambda self: self.working)
    @rule(pick=PICK, weights=DATA, state=DATA, kind=KIND, on=st.integers(0, 1), most=st.sampled_from((0, 1, 2, 2, 2)))
    def save(self, pick: int, weights: bytes, state: bytes, kind: str, on: int, most: int) -> None:
        """At the step of the one before, or a step further; now and then it is cut off."""
        run = some(self.working, pick)
        step = run.step + on
        if any((one.attempt, one.kind, one.step) == (run.lease.attempt, kind, step) for one in run.saved):
            return
        run.step = step
        event = checkpoint_saved(kind, step, weights, state if kind == "last" else None)
        with self.lab.database.write() as session:
            begun = checkpoints.begin(session, run.lease, event)
        if begun is None:
            # Given up before, in this attempt.
            return
        contents = {"weights": weights, "state": state}
        parts = {
            part: self.keep(file, run.owner, contents[part], run.lease.job_id, f"{begun.id} {part}")
            for part, file in begun.files.items()
        }
        saved = Saved(begun.id, run.lease.attempt, kind, step, parts)
        run.saved.append(saved)
        for file in parts.values():
            if not file.whole:
                self.send_some(file, most)
        if all(file.whole or file.sent == len(file.data) for file in parts.values()):
            self.lab.complete(run.lease, begun)
            for file in parts.values():
                self.become_whole(file)
            saved.whole = True
            self.retain(run)

    @precondition(lambda self: self.working)
    @rule(pick=PICK)
    def kill(self, pick: int) -> None:
        """The next attempt goes on from the newest whole `last`."""
        run = some(self.working, pick)
        self.lab.release(run.lease)
        claim = self.lab.claim()
        lasts = [one for one in run.saved if one.whole and one.kind == "last"]
        newest = max(lasts, key=lambda one: (one.step, one.attempt), default=None)
        assert claim.restore == (newest.id if newest else None)
        run.lease, run.step = claim.lease, newest.step if newest else 0
        self.drop([one for one in run.saved if newest is None or one.step > newest.step or not one.whole], run)

    @precondition(lambda self: any(one.whole for run in self.working for one in run.saved))
    @rule(pick=PICK)
    def give_up(self, pick: int) -> None:
        run = some([run for run in self.working if any(one.whole for one in run.saved)], pick)
        saved = some([one for one in run.saved if one.whole], pick)
        with self.lab.database.write() as session:
            checkpoints.give_up(session, run.lease, saved.id, "it is damaged")
        for file in saved.files.values():
            file.bytes.shared = False
        self.drop([saved], run)

    @precondition(lambda self: self.working)
    @rule(pick=PICK, outcome=st.sampled_from((work.Cancelled(), work.Failed("trainer_error", "Broke."))))
    def end(self, pick: int, outcome: work.Outcome) -> None:
        run = some(self.working, pick)
        self.lab.finish(run.lease, outcome)
        run.ended = True
        # The next purge drops what will never be whole; until then it cannot be read either.
        self.drop([one for one in run.saved if not one.whole], run)
        self.forget([one for one in self.kept.values() if one.job == run.lease.job_id and not one.whole])

    @precondition(lambda self: any(run.ended for run in self.runs))
    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        run = some([run for run in self.runs if run.ended], pick)
        with self.lab.database.write() as session:
            experiments.delete(session, run.lease.job_id, By(None))
        self.runs.remove(run)
        self.forget([one for one in self.kept.values() if one.job == run.lease.job_id])

    @precondition(lambda self: self.uploads)
    @rule(pick=PICK)
    def drop_an_upload(self, pick: int) -> None:
        file = some(self.uploads, pick)
        with self.lab.database.write() as session:
            files.drop(session, [file.id])
        self.forget([file])

    @precondition(lambda self: self.uploads and self.working)
    @rule(pick=PICK)
    def attach(self, pick: int) -> None:
        file, run = some(self.uploads, pick), some(self.working, pick)
        if file.whole and file.owner == run.owner:
            with self.lab.database.write() as session:
                files.attach(session, self.ids[file.owner], file.id, run.lease.job_id)
            file.job, file.name = run.lease.job_id, f"upload {file.id}"

    @rule()
    def purge_a_step(self) -> None:
        with self.lab.database.write() as session:
            purging.purge(session)

    @rule()
    def purge_all(self) -> None:
        gone = 1
        while gone:
            with self.lab.database.write() as session:
                gone = purging.purge(session)
        self.stored = self.bytes_in_use()
        assert self.counted() == {owner: total(self.stored, owner) for owner in self.ids}

    @invariant()
    def what_is_shown_is_what_the_model_has(self) -> None:
        self.steps[0] += 1
        with self.lab.database.read() as session:
            assert orphans.find(session) == []
            shown = set(session.scalars(select(File.id).where(File.whole_at.is_not(None), File.dropped_at.is_(None))))
            kept = (Checkpoint.whole_at.is_not(None), Checkpoint.dropped_at.is_(None))
            saved = set(session.execute(select(Checkpoint.id, Checkpoint.kind, Checkpoint.step).where(*kept)))
        assert shown == {file.id for file in self.kept.values() if file.whole}
        assert saved == {(one.id, one.kind, one.step) for run in self.runs for one in run.saved if one.whole}
        for owner, counted in self.counted().items():
            assert total(self.bytes_in_use(), owner) <= counted <= total(self.stored, owner)

    @invariant()
    def what_is_read_is_what_was_sent(self) -> None:
        """Of one file a step, which takes most of the time; of all in the end."""
        self.read(list(self.kept.values())[self.steps[0] % (len(self.kept) or 1) :][:1])

    def teardown(self) -> None:
        self.read(list(self.kept.values()))
        for run in self.runs:
            if not run.ended:
                self.lab.finish(run.lease, work.Cancelled())
            with self.lab.database.write() as session:
                experiments.delete(session, run.lease.job_id, By(None))
        with self.lab.database.write() as session:
            files.drop(session, [file.id for file in self.uploads])
            while purging.purge(session):
                pass
        left = self.lab.everything()
        assert [name for name in ("jobs", "checkpoints", "files", "contents", "content_chunks") if left[name]] == []
        assert not any(self.counted().values())

    @property
    def working(self) -> list[Run]:
        return [run for run in self.runs if not run.ended]

    @property
    def unfinished(self) -> list[Kept]:
        """Those that can be written to by themselves, without a checkpoint."""
        return [file for file in self.kept.values() if not file.whole and " " not in file.name]

    @property
    def uploads(self) -> list[Kept]:
        return [file for file in self.kept.values() if file.job is None]

    def run_of(self, file: Kept) -> Run | None:
        return next((run for run in self.runs if run.lease.job_id == file.job), None)

    def keep(self, begun: Begun, owner: str, data: bytes, job: str | None = None, name: str = "") -> Kept:
        """A file that was announced. Its bytes are found again for certain if another that is kept has them."""
        alike = self.alike(owner, data)
        if alike is None or self.is_used(alike):
            assert begun.whole == (alike is not None)
        if begun.whole:
            used = alike
        else:
            used = Bytes(owner, data)
            self.stored.append(used)
            if alike is not None:
                alike.shared = False
        file = Kept(begun.file_id, owner, data, used, job, name, begun.whole, len(data) if begun.whole else 0)
        self.kept[file.id] = file
        return file

    def send_some(self, file: Kept, most: int) -> None:
        run = self.run_of(file)
        for seq in range(min(most, -(-len(file.data) // MIB))):
            chunk = file.data[seq * MIB : (seq + 1) * MIB]
            with self.lab.database.write() as session:
                if run is None:
                    files.write_chunk_of(session, self.ids[file.owner], file.id, seq, chunk)
                else:
                    files.write_chunk(session, run.lease, file.id, seq, chunk)
        file.sent = max(file.sent, min(most * MIB, len(file.data)))

    def become_whole(self, file: Kept) -> None:
        if file.whole:
            return
        file.whole = True
        alike = self.alike(file.owner, file.data)
        if alike is not None and self.is_used(alike):
            file.bytes = alike
        else:
            # Those that are dropped may still be shared; then these are as well.
            file.bytes.shared = True
            if alike is not None:
                alike.shared = False

    def alike(self, owner: str, data: bytes) -> Bytes | None:
        return next((one for one in self.stored if one.shared and (one.owner, one.data) == (owner, data)), None)

    def is_used(self, content: Bytes) -> bool:
        return any(file.bytes is content for file in self.kept.values())

    def bytes_in_use(self) -> list[Bytes]:
        return [one for one in self.stored if self.is_used(one)]

    def retain(self, run: Run) -> None:
        whole = [one for one in run.saved if one.whole]
        ages = {one.id: (one.step, one.attempt) for one in whole}
        lasts = sorted((one for one in whole if one.kind == "last"), key=lambda one: ages[one.id])
        if lasts:
            bests = [one for one in whole if one.kind == "best" and one.step <= lasts[-1].step]
            newest = max((ages[one.id] for one in bests), default=None)
            self.drop([*lasts[:-1], *(one for one in bests if ages[one.id] != newest)], run)

    def drop(self, saved: list[Saved], run: Run) -> None:
        for one in saved:
            run.saved.remove(one)
            self.forget(list(one.files.values()))

    def forget(self, dropped: list[Kept], but: Kept | None = None) -> None:
        for file in dropped:
            if file is not but:
                self.kept.pop(file.id, None)

    def counted(self) -> dict[str, int]:
        with self.lab.database.read() as session:
            stored = dict(session.execute(select(Owner.name, Owner.stored_bytes)).all())
        return {name: stored.get(name, 0) for name in self.ids}

    def read(self, kept: list[Kept]) -> None:
        for file in kept:
            with contextlib.nullcontext() if file.whole else pytest.raises(FileNotFound):
                assert b"".join(files.read(self.lab.database, file.id)) == file.data


def some(among: list[Any], pick: int) -> Any:
    return among[pick % len(among)]


def total(stored: list[Bytes], owner: str) -> int:
    return sum(len(one.data) for one in stored if one.owner == owner)


def said(name: str, kind: str, data: bytes) -> Announced:
    return Announced(name, kind, None, len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(("examples", "least"), [(4, 140), pytest.param(12, 500, marks=pytest.mark.system)])
def test_whatever_happens_in_whatever_order_the_model_is_right_and_nothing_is_left(
    lab: Any, examples: int, least: int
) -> None:
    steps = [0]
    size = {"max_examples": examples, "stateful_step_count": STEPS}
    same = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
    run_machine(lambda: AnyOrder(lab, steps), settings=settings(**size, **same))
    assert steps[0] >= least
