"""Actions on the database's content: locks that somebody else holds, damage, and what owners ask of their jobs."""

import contextlib
import sqlite3
import threading

import psycopg
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from bench.chaos.on_processes import NothingThere
from bench.chaos.processes import after
from bench.chaos.scene import Scene
from bench.chaos.schedule import Action
from store.columns import core
from store.errors import IllegalTransition
from store.jobs import wishes
from store.jobs.states import TERMINAL, State
from store.jobs.wishes import By, Wish
from store.tables import Checkpoint, ContentChunk, File, Job

_TABLES = ("jobs", "checkpoints", "contents", "content_chunks", "metric_segments", "job_events", "watches", "bells")
_LOCK_SECONDS = 5
_WISHES: dict[str, Wish] = {"job_paused": "pause", "job_cancelled": "cancel", "job_killed": "kill"}


def lock(scene: Scene, action: Action, ending: threading.Event) -> str:
    """Hold a lock that keeps others from writing, on PostgreSQL from reading too."""
    if scene.kind == "sqlite":
        connection = sqlite3.connect(scene.sqlite_path, timeout=_LOCK_SECONDS, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("BEGIN IMMEDIATE")
            after(action.lasts_seconds, ending, lambda: connection.execute("ROLLBACK"))
        return "the whole database"
    table = _TABLES[int(action.choice * len(_TABLES))]
    with psycopg.connect(scene.database_url) as locking:
        locking.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
        locking.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        after(action.lasts_seconds, ending, lambda: locking.rollback())
    return table


def damage(scene: Scene, action: Action, _ending: threading.Event) -> str:
    """Flip a bit of a checkpoint to resume from, cut it short or lose a chunk of it; then kill who trains."""
    with scene.stack.database.write() as session:
        found = session.execute(
            select(Checkpoint.id, Checkpoint.experiment_id, Checkpoint.step)
            .join(Job, Job.id == Checkpoint.experiment_id)
            .where(Checkpoint.kind == "last", Checkpoint.whole_at.is_not(None), Checkpoint.dropped_at.is_(None))
            .where(Job.state.in_((State.RUNNING, State.QUEUED, State.PAUSED)))
            .order_by(Checkpoint.id)
        ).all()
        if not found:
            raise NothingThere
        checkpoint_id, job_id, step = found[int(action.choice * len(found))]
        content_id, how = _damage(session, checkpoint_id, action)
        # And all that have the same bytes.
        its_files = select(File.id).where(File.content_id == content_id)
        sharing = Checkpoint.weights_id.in_(its_files) | Checkpoint.state_id.in_(its_files)
        scene.ledger.damaged.update(session.scalars(select(Checkpoint.id).where(sharing)))
    for trainer in scene.monitor.trainers_of(job_id):
        with contextlib.suppress(Exception):
            trainer.process.kill()
    return f"{checkpoint_id} of step {step} of {job_id}: {how}"


def wish(scene: Scene, action: Action, ending: threading.Event) -> str:
    """Pause and resume, cancel, or kill a job that has not ended."""
    wished = _WISHES[action.kind]
    job_id = _some_job(scene, action, tuple(set(State) - TERMINAL))
    _ask(scene, job_id, wished)
    if wished == "pause":
        after(action.lasts_seconds, ending, lambda: resume(scene, job_id))
    return job_id


def retry(scene: Scene, action: Action, _ending: threading.Event) -> str:
    """Have a job that failed or was cancelled go on."""
    job_id = _some_job(scene, action, (State.FAILED, State.CANCELLED))
    asked = scene.ledger.ask(job_id, "retry")
    with scene.stack.database.write() as session:
        wishes.retry(session, job_id, By(None))
    asked.certain = True
    return job_id


def resume(scene: Scene, job_id: str) -> None:
    """Have a paused job go on, if it still is; what does not work now is done at the end."""
    with contextlib.suppress(IllegalTransition, DBAPIError), scene.stack.database.write() as session:
        wishes.resume(session, job_id, By(None))


def _ask(scene: Scene, job_id: str, wished: Wish) -> None:
    asked = scene.ledger.ask(job_id, wished)
    with scene.stack.database.write() as session:
        wishes.ask(session, job_id, wished, By(None))
    asked.certain = True


def _some_job(scene: Scene, action: Action, states: tuple[State, ...]) -> str:
    """One of those, a running one if there is one."""
    ours = set(scene.ledger.acknowledged.values())
    with scene.stack.database.read() as session:
        rows = session.execute(select(Job.id, Job.state).where(Job.state.in_(states)).order_by(Job.id)).all()
    found = [job_id for job_id, state in rows if state is State.RUNNING and job_id in ours]
    found = found or [job_id for job_id, _ in rows if job_id in ours]
    if not found:
        raise NothingThere
    return found[int(action.choice * len(found))]


def _damage(session: Session, checkpoint_id: str, action: Action) -> tuple[str, str]:
    """Of which content, and how."""
    table = core(ContentChunk)
    of_checkpoint = (File.id == Checkpoint.weights_id) | (File.id == Checkpoint.state_id)
    chunks = session.execute(
        select(File.kind, table.c.content_id, table.c.seq, table.c.data)
        .join(File, File.content_id == table.c.content_id)
        .join(Checkpoint, of_checkpoint)
        .where(Checkpoint.id == checkpoint_id)
        .order_by(File.kind, table.c.seq)
    ).all()
    if not chunks:
        raise NothingThere
    kind, content_id, seq, data = chunks[action.number % len(chunks)]
    this = (table.c.content_id == content_id, table.c.seq == seq)
    place = int(action.choice * len(data))
    match action.number // 2 % 3:
        case 0:
            flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            session.execute(update(table).where(*this).values(data=flipped))
            return content_id, f"a bit of byte {place} of {kind} flipped"
        case 1:
            session.execute(update(table).where(*this).values(data=data[:place]))
            return content_id, f"{kind} cut after {place} bytes"
        case _:
            session.execute(delete(table).where(*this))
            return content_id, f"chunk {seq} of {kind} deleted"
