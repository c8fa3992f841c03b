"""One run from its first process to its last line.

Invariant: nothing is checked before everything that was taken away is given back and all jobs have had time to end.
"""

import contextlib
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from bench.chaos import check_others, check_rows, checks, references, report
from bench.chaos.actions import Actions
from bench.chaos.on_data import resume
from bench.chaos.other_kinds import Undisturbed, undisturbed
from bench.chaos.processes import Ended
from bench.chaos.report import Finding
from bench.chaos.scene import NAMES, WORKERS, Scene
from bench.chaos.schedule import DatabaseKind, schedule
from bench.chaos.sending import Sender
from bench.chaos.servers import own_directory
from bench.chaos.submitting import Submitter
from store.jobs.states import TERMINAL, State
from store.tables import Job

Say = Callable[[str], None]

_LOOK_SECONDS = 0.5
# Longer than a job waits after its machine's disk was full, and than a trainer waits for the one before it.
_STANDSTILL_SECONDS = 150.0
_CLEAN_SECONDS = 150.0
_NEWBORN_SECONDS = 10.0
_GIVE_BACK_SECONDS = 150.0


@dataclass(frozen=True)
class Options:
    """What kind of run."""

    seed: int
    database: DatabaseKind
    seconds: float
    jobs: int = 200
    specs: tuple[str, ...] = tuple(references.SPECS)
    mean_gap_seconds: float = 3.0
    keep: bool = False


def run(options: Options, say: Say = print) -> int:
    """How many checks found a fault; then the directory with all logs is kept."""
    directory = own_directory(f"bnlab-chaos-{options.database}-{options.seed}-")
    say(f"seed {options.seed} on {options.database}, {options.seconds:.0f} s, {options.jobs} jobs; logs in {directory}")
    with Scene(directory, options.database) as scene:
        if scene.no_small_disk is not None:
            say(f"the disk is not filled: {scene.no_small_disk}")
        findings = _findings(scene, options, say)
        faulty = [finding for finding in findings if finding.faults]
        for line in (line for finding in findings for line in finding.lines()):
            say(line)
        for job_id in sorted({job_id for finding in faulty for job_id in finding.jobs})[:6]:
            for line in report.history(job_id, directory, scene.ledger.deeds_to(job_id), NAMES):
                say(line)
        if faulty or options.keep:
            _keep(scene, directory, say)
    if not faulty and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    return len(faulty)


def _findings(scene: Scene, options: Options, say: Say) -> list[Finding]:
    scene.processes.start_all()
    for name in WORKERS:
        scene.stack.await_log(name, "trainer_ready", seconds=120.0)
    with contextlib.closing(Sender(scene.ledger, scene.api_url, scene.api_key)) as sender:
        reference = references.train(scene.stack, sender, options.specs)
        other = undisturbed(sender, reference[options.specs[0]].experiment_id)
        say("references are trained, imported and evaluated")
        began = time.monotonic()
        scene.monitor.start()
        _disturb(scene, options, sender, other, say)
    standing = _await_ends(scene, say)
    clean = _until(lambda: _is_clean(scene), _CLEAN_SECONDS)
    codes = scene.processes.stop_all()
    scene.redis.kill()
    scene.monitor.stop()
    jobs = checks.jobs_by_id(scene)
    ends = check_others.ends(jobs)
    restarts, attempts = sum(job.restarts for job in jobs.values()), sum(job.attempt for job in jobs.values())
    for line in report.summary(scene.ledger, ends, restarts, attempts, time.monotonic() - began):
        say(line)
    return [
        checks.acknowledged(scene, jobs),
        checks.answers(scene.ledger),
        checks.ends(scene, jobs),
        checks.one_trainer(scene),
        *checks.results(scene, jobs, reference),
        check_others.results(scene, jobs, other),
        check_rows.rows(scene),
        check_others.left(scene),
        check_others.cache(scene, other),
        check_rows.files(scene),
        check_rows.processes(scene, codes),
        checks.counted(scene, jobs),
        _course(scene, standing, clean),
    ]


def _disturb(scene: Scene, options: Options, sender: Sender, other: Undisturbed, say: Say) -> None:
    submitter = Submitter(
        sender, other, seed=options.seed, jobs=options.jobs, seconds=0.8 * options.seconds, specs=options.specs
    )
    submitter.start()
    actions = Actions(scene)
    planned = schedule(options.seed, options.seconds, options.database, mean_gap_seconds=options.mean_gap_seconds)
    actions.perform(planned)
    say(f"{len(planned)} actions are over; everything is given back")
    for name in actions.end(_GIVE_BACK_SECONDS):
        scene.ledger.wrong_answers.append(f"the action {name} does not end")
    _heal(scene)
    if not submitter.finish(_STANDSTILL_SECONDS):
        scene.ledger.wrong_answers.append("not everything could be submitted")


def _heal(scene: Scene) -> None:
    """Start both workers anew, in order, so that what a dead one left is found; and resume what is paused."""
    for name in WORKERS:
        with scene.processes.taking(name, wait=True):
            scene.processes.terminate(name)
            scene.processes.start(name)


def _await_ends(scene: Scene, say: Say) -> bool:
    """Whether all jobs came to an end; False when nothing moved any more."""
    seen, moved_at = -1, time.monotonic()
    while time.monotonic() - moved_at < _STANDSTILL_SECONDS:
        with scene.stack.database.read() as session:
            versions = session.execute(select(func.sum(Job.version))).scalar_one()
            waiting = session.execute(select(Job.id, Job.state).where(Job.state.not_in(TERMINAL))).all()
        if not waiting:
            return True
        if versions != seen:
            seen, moved_at = versions, time.monotonic()
        for job_id, state in waiting:
            if state is State.PAUSED:
                resume(scene, job_id)
        time.sleep(_LOOK_SECONDS)
    say(f"{len(waiting)} jobs do not move any more")
    return False


def _is_clean(scene: Scene) -> bool:
    with scene.stack.database.read() as session:
        return check_rows.is_clean(session)


def _until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _course(scene: Scene, standing: bool, clean: bool) -> Finding:
    """8. Nothing on the way that nobody intended."""
    finding = Finding("8 no process ended by itself, no traceback, no action broke")
    if not standing:
        finding.fault("the queue stood still")
    if not clean:
        finding.fault("housekeeping did not come to an end")
    for ended in scene.processes.ended_by_themselves:
        finding.fault(f"{ended.name} ended by itself with code {ended.code} at {ended.at:.1f}")
    for ended in (one for one in scene.processes.terminated if not _is_good(one)):
        lived = f"{ended.lived_seconds:.1f} s old"
        finding.fault(f"{ended.name}, {lived}, ended with code {ended.code} on SIGTERM at {ended.at:.1f}")
    for name, words in report.broken_lines(scene.directory, NAMES):
        finding.fault(f"{name}: {words}")
    for deed in (one for one in scene.ledger.deeds if one.outcome == "broke"):
        finding.fault(f"action {deed.number} {deed.kind}: {deed.what}")
    return finding


def _is_good(ended: Ended) -> bool:
    """1: the end was forced, as when a database stands still. A process that has just begun knows no signals yet."""
    return ended.code in (0, 1) or (ended.code == -signal.SIGTERM and ended.lived_seconds < _NEWBORN_SECONDS)


def _keep(scene: Scene, directory: Path, say: Say) -> None:
    with (directory / "actions.txt").open("w") as file:
        for deed in scene.ledger.deeds:
            file.write(f"{deed.at:.3f} [{deed.number}] {deed.kind} {deed.outcome} {deed.what}\n")
    if scene.postgresql is not None:
        say("the PostgreSQL server is gone with its data; the logs have what was said")
    say(f"kept: {directory}")
