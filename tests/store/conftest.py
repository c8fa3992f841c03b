"""A laboratory: the store with an experiment in it, and short words for what a worker does."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from bncore.events import CheckpointSaved, MetricsBlock, StoredFile
from bncore.spec import ExperimentSpec, load_spec
from store import at_once, checkpoints, experiments, files, results, work
from store.__main__ import main
from store.columns import core
from store.database import Database
from store.datasets import completing, uploads
from store.datasets.completing import Completed
from store.datasets.uploads import Part, Wanted
from store.experiments import Submission
from store.files import Announced, Small
from store.jobs import leases, wishes
from store.jobs.leases import Lease, Terms, Worker
from store.jobs.wishes import By
from store.queueing import Limits
from store.tables import Experiment, Job, Table, Upload
from store.work import Claim

LEASE_SECONDS = 60.0
RunStore = Callable[..., tuple[int, str, str]]
ANYBODY = By(None)
WORKER = Worker(process_id="prc_1", device="cpu", device_model="Model A", torch_version="2.13.0")


@dataclass
class Lab:
    """What tests of the store do, each in a transaction of its own."""

    database: Database
    worker: Worker = WORKER

    def spec(self, **parts: Any) -> ExperimentSpec:
        return load_spec({"train": {"steps": 2000, "batch_size": 60}, **parts})

    def submission(self, **parts: Any) -> Submission:
        return Submission.of(self.spec(**parts))

    def submit(self, device: str = "cpu", owner: str = "own_1", **parts: Any) -> str:
        with self.database.write() as session:
            return experiments.submit(session, self.submission(**parts), owner=owner, device=device).id

    def claim(self, lease_seconds: float = LEASE_SECONDS, terms: Terms | None = None, **other: str) -> Claim | None:
        worker = replace(self.worker, **other)
        with self.database.write() as session:
            return work.take(session, worker, terms or Terms(lease_seconds), leases.new_token())

    def running(self, lease_seconds: float = LEASE_SECONDS, **parts: Any) -> Lease:
        self.submit(**parts)
        claim = self.claim(lease_seconds)
        assert claim is not None
        return claim.lease

    def get(self, experiment_id: str) -> Experiment:
        with self.database.read() as session:
            return experiments.get(session, experiment_id)

    def change(self, experiment_id: str, **values: Any) -> None:
        """Set columns directly: time travel, mostly."""
        with self.database.write() as session:
            for table in (core(Job), core(Experiment)):
                mine = {name: value for name, value in values.items() if name in table.c}
                if mine:
                    session.execute(update(table).where(table.c.id == experiment_id).values(**mine))

    def jump(self, seconds: float) -> None:
        """The database's clock goes forward, or back: every stored time is moved the other way."""
        with self.database.write() as session:
            for table in Table.metadata.sorted_tables:
                moments = [
                    column for column in table.c if column.name.endswith(("_at", "_from", "not_before", "_before"))
                ]
                values = {column: column - seconds for column in moments}
                if values:
                    session.execute(update(table).values(values))

    def append(self, lease: Lease, *events: Any) -> leases.Go | leases.Stop:
        with self.database.write() as session:
            return results.append(session, lease, events)

    def release(self, lease: Lease) -> Experiment:
        return self.finish(lease, work.Released())

    def finish(self, lease: Lease, outcome: work.Outcome) -> Experiment:
        with self.database.write() as session:
            work.finish(session, lease, outcome)
        return self.get(lease.job_id)

    def ask(self, experiment_id: str, wish: wishes.Wish, by: By = ANYBODY) -> Experiment:
        with self.database.write() as session:
            wishes.ask(session, experiment_id, wish, by)
        return self.get(experiment_id)

    def checkpoint(
        self, lease: Lease, kind: str, step: int, weights: bytes = b"w" * 100, state: bytes | None = b"s" * 50
    ) -> str:
        """A whole checkpoint, stored as a worker does it."""
        event = checkpoint_saved(kind, step, weights, state if kind == "last" else None)
        with self.database.write() as session:
            begun = checkpoints.begin(session, lease, event)
        for part, content in (("weights", weights), ("state", state or b"")):
            if part in begun.files:
                self.send(lease, begun.files[part], content)
        self.complete(lease, begun)
        return begun.id

    def send(self, lease: Lease, begun: files.Begun, content: bytes) -> None:
        """The bytes of a file, where they are wanted."""
        for seq, start in enumerate(range(0, 0 if begun.whole else len(content), files.CHUNK_BYTES)):
            with self.database.write() as session:
                chunk = content[start : start + files.CHUNK_BYTES]
                files.write_chunk(session, lease, begun.file_id, seq, chunk)

    def complete(self, lease: Lease, begun: checkpoints.BegunCheckpoint) -> None:
        """Compare what is stored with what was announced, and show it, as a worker does."""
        digests = {part: files.digest(self.database, file.file_id) for part, file in begun.files.items()}
        with self.database.write() as session:
            checkpoints.complete(session, lease, begun.id, digests)

    def file(self, lease: Lease, name: str, content: bytes, kind: str = "array", step: int | None = None) -> str:
        """A result file, stored as a worker does it."""
        announced = Announced(name, kind, step, len(content), hashlib.sha256(content).hexdigest())
        with self.database.write() as session:
            begun = files.begin(session, lease, announced)
        for seq, start in enumerate(range(0, 0 if begun.whole else len(content), files.CHUNK_BYTES)):
            with self.database.write() as session:
                files.write_chunk(session, lease, begun.file_id, seq, content[start : start + files.CHUNK_BYTES])
        with self.database.write() as session:
            files.complete(session, lease, begun.file_id, files.digest(self.database, begun.file_id))
        return begun.file_id

    def store_at_once(self, lease: Lease) -> None:
        """A recording and a checkpoint that nobody has stored yet."""
        weights, state, recording = (leases.new_token().encode() for _ in range(3))
        name, step = leases.new_token(), 10**9
        announced = Announced(name, "diagnostic", step, len(recording), hashlib.sha256(recording).hexdigest())
        event = checkpoint_saved("last", step, weights, state)
        kept = [(event, {"weights": weights, "state": state})]
        with self.database.write() as session:
            at_once.store(session, lease, [event], [Small(announced, recording)], kept, 1 << 40)

    def upload(self, *pieces: bytes, owner: str = "own_1", name: str = "n", **spec: Any) -> Upload:
        """An upload with these parts."""
        wanted = Wanted(name, "n.npz", spec, hashlib.sha256(repr(spec).encode()).hexdigest())
        with self.database.write() as session:
            upload = uploads.begin(session, wanted, owner=owner)
        for number, piece in enumerate(pieces, start=1):
            self.part(upload.id, number, piece, owner=owner)
        return upload

    def part(self, upload_id: str, number: int, piece: bytes, *, owner: str = "own_1", **limits: Any) -> str:
        """Store one part; the id of its file."""
        part = Part(number, len(piece), hashlib.sha256(piece).hexdigest())
        most = limits.get("most_bytes", 1 << 30)
        with self.database.write() as session:
            _, begun = uploads.begin_part(
                session, upload_id, part, owner=owner, most_bytes=most, owner_bytes=limits.get("owner_bytes")
            )
        with self.database.write() as session:
            files.write_chunk_of(session, owner, begun.file_id, 0, piece)
        with self.database.write() as session:
            ours = {"owner": owner, "file_id": begun.file_id, "digest": part.sha256, "most_bytes": most}
            uploads.finish_part(session, upload_id, part, **ours)
        return begun.file_id

    def complete_upload(self, upload: Upload, sha256: str | None = None) -> Completed:
        """Complete an upload; by default it is what was meant."""
        with self.database.read() as session:
            parts = uploads.parts(session, upload.id)
        completing.require_all(parts)
        *_, whole = completing.put_together(self.database, parts)
        with self.database.write() as session:
            return completing.complete(session, upload, whole, sha256 or whole.sha256, device="cpu", limits=Limits())

    def dataset(self, source: bytes = b"source", owner: str = "own_1") -> str:
        """One that is imported; its manifest says what its id is, so that no two are alike."""
        dataset_id = self.complete_upload(self.upload(source, owner=owner), None).dataset_id
        claim = self.claim()
        assert claim is not None
        self.file(claim.lease, "dataset.json", json.dumps({"id": dataset_id}).encode())
        with self.database.write() as session:
            work.finish(session, claim.lease, work.Concluded({"examples": 1}))
        return dataset_id

    def checkpoints(self, experiment_id: str) -> list[tuple[str, int]]:
        with self.database.read() as session:
            return [(found.kind, found.step) for found in checkpoints.listed(session, experiment_id)]

    def points(self, experiment_id: str, key: str) -> tuple[list[int], list[float]]:
        with self.database.read() as session:
            found = results.series(session, experiment_id, [key]).get(key)
        return ([], []) if found is None else (found.steps.tolist(), found.values.tolist())

    def everything(self, but: Sequence[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, to see that nothing changed."""
        with self.database.read() as session:
            return {
                table.name: sorted(map(tuple, session.execute(select(table)).all()), key=repr)
                for table in Table.metadata.sorted_tables
                if table.name not in but
            }


@pytest.fixture
def lab(database: Database) -> Lab:
    return Lab(database)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new.db"
    return request.getfixturevalue("empty_postgresql_url")


@pytest.fixture
def run_store(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunStore:
    """Run a command on a SQLite database: exit code, output, errors."""
    monkeypatch.setenv("BNLAB_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("BNLAB_BOOTSTRAP_API_KEY", "")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def block() -> Any:
    """A function that makes a metrics event: `block(first_step, key=[values])`, `__` in a key reads `/`."""

    def make(first_step: int, **values: list[float]) -> MetricsBlock:
        series = {key.replace("__", "/"): list(map(float, points)) for key, points in values.items()}
        return MetricsBlock(first_step=first_step, count=len(next(iter(series.values()))), values=series)

    return make


@pytest.fixture
def saved() -> Any:
    """A function that makes a checkpoint event: `saved(kind, step, weights, state)`."""
    return checkpoint_saved


def checkpoint_saved(
    kind: Any, step: int, weights: bytes = b"w" * 100, state: bytes | None = b"s" * 50
) -> CheckpointSaved:
    name = f"checkpoints/{kind}-{step:09d}"
    return CheckpointSaved(
        checkpoint_kind=kind,
        step=step,
        epoch=step // 24,
        weights=stored_file(f"{name}.safetensors", weights),
        state=None if state is None else stored_file(f"{name}.state.safetensors", state),
        metrics={"test/accuracy": 0.5, "test/loss": float("inf")},
    )


def stored_file(name: str, content: bytes) -> StoredFile:
    return StoredFile(file=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
