"""What has to be true of the jobs when everything is healed and at its end."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from sqlalchemy import select

from bench.chaos import references
from bench.chaos.ledger import Ledger
from bench.chaos.references import Reference
from bench.chaos.report import Finding
from bench.chaos.scene import Scene
from store import checkpoints
from store.errors import CheckpointDamaged, CheckpointNotFound
from store.jobs import eventlog
from store.jobs.failures import CODES, Remedy
from store.jobs.states import TERMINAL, State
from store.tables import Dataset, Evaluation, Experiment, IdempotencyKey, Job

_MOST_LINES = 100_000


def jobs_by_id(scene: Scene) -> dict[str, Job]:
    """Every experiment, import and evaluation but the references."""
    with scene.stack.database.read() as session:
        trained = session.scalars(select(Experiment)).all()
        found: list[Job] = [row for row in trained if not (row.name or "").startswith("reference-")]
        found += [*session.scalars(select(Dataset)), *session.scalars(select(Evaluation))]
    return {row.id: row for row in sorted(found, key=lambda row: row.id) if row.id not in scene.ledger.references}


def acknowledged(scene: Scene, jobs: Mapping[str, Job]) -> Finding:
    """1. Nothing that was acknowledged is lost, nothing was made twice."""
    ledger = scene.ledger
    finding = Finding("1 every acknowledged POST is there, one key is one job")
    for key, job_id in ledger.acknowledged.items():
        if job_id not in jobs:
            finding.fault(f"{key} was acknowledged as {job_id}, which is not there", job_id)
    for key in ledger.spec_of.keys() - ledger.acknowledged.keys():
        finding.fault(f"{key} was never acknowledged")
    for job_id in jobs.keys() - set(ledger.acknowledged.values()):
        finding.fault(f"{job_id} is there and answers no key", job_id)
    with scene.stack.database.read() as session:
        bound = dict(session.execute(select(IdempotencyKey.key, IdempotencyKey.experiment_id)).all())
    for key, found in bound.items():
        if found not in (ledger.acknowledged.get(key), *ledger.references):
            finding.fault(f"{key} stands for {found} and was acknowledged as {ledger.acknowledged.get(key)}")
    finding.note = f"{len(ledger.acknowledged)} keys"
    return finding


def answers(ledger: Ledger) -> Finding:
    """The API says nothing but what it did, or that its database is away."""
    finding = Finding("1a no answer but success and 503")
    for words in ledger.wrong_answers:
        finding.fault(words)
    return finding


def ends(scene: Scene, jobs: Mapping[str, Job]) -> Finding:
    """2. Every job is at an end that its history allows."""
    finding = Finding("2 all are terminal, each in a state that its history allows")
    failed = [job for job in jobs.values() if job.state is State.FAILED]
    unexplained = [job for job in failed if not _is_explained(job)]
    for job in jobs.values():
        if job.state not in TERMINAL:
            finding.fault(f"{job.id} is {job.state.value}, phase {job.phase}, attempt {job.attempt}", job.id)
        elif job.state is not State.FAILED and job.state not in scene.ledger.ends_of(job.id):
            finding.fault(f"{job.id} is {job.state.value}; asked: {scene.ledger.wishes.get(job.id)}", job.id)
    for job in unexplained:
        restarts = f"{job.restarts} of {job.max_restarts} restarts"
        finding.fault(f"{job.id} failed, {job.failure_code}, {restarts}: {job.failure_message}", job.id)
    codes = Counter(str(job.failure_code) for job in failed if job not in unexplained)
    finding.note = f"failed after their last restart: {dict(codes)}" if codes else ""
    return finding


def _is_explained(job: Job) -> bool:
    """It used up its restarts, and it had so few that what was done to it and around it may have cost them."""
    code = CODES.get(job.failure_code or "")
    restarts = code is not None and code.remedy is Remedy.RESTART
    return restarts and job.restarts == job.max_restarts <= references.FEW_RESTARTS


def one_trainer(scene: Scene) -> Finding:
    """3. No job was run by two at once."""
    finding = Finding("3 no job was run by two trainers at once", note=f"{scene.monitor.looks} looks")
    for together in scene.monitor.together:
        who = ", ".join(f"process {pid} (attempt {attempt})" for pid, attempt in together.attempts)
        finding.fault(f"{together.experiment_id} at {together.at:.1f}: {who}", together.experiment_id)
    return finding


def results(scene: Scene, jobs: Mapping[str, Job], undisturbed: Mapping[str, Reference]) -> list[Finding]:
    """4 and 5. Series without gap or duplicate; what is there is what an undisturbed run has, bit for bit."""
    gaps, bits = Finding("4 series and recordings have every step once"), Finding("5 all of them are bit-identical")
    for job in (one for one in jobs.values() if isinstance(one, Experiment)):
        reference = undisturbed[job.tags["spec"]]
        series = scene.stack.series(job.id)
        for key, (steps, values) in series.items():
            wanted, others = reference.series[key]
            if steps != wanted[: len(steps)] or (job.state is State.SUCCEEDED and len(steps) != len(wanted)):
                odd = [(got, want) for got, want in zip(steps, wanted, strict=False) if got != want][:3]
                gaps.fault(f"{job.id} {key}: {len(steps)} of {len(wanted)} steps, first odd ones {odd}", job.id)
            elif not np.array_equal(values, others[: len(values)], equal_nan=True):
                first = int(np.flatnonzero(values != others[: len(values)])[0])
                bits.fault(f"{job.id} {key}: differs from step {steps[first]} on", job.id)
        if job.state is State.SUCCEEDED:
            if series.keys() != reference.series.keys():
                gaps.fault(f"{job.id}: series {sorted(series.keys() ^ reference.series.keys())}", job.id)
            _compare_weights(scene, job, reference, bits)
        _compare_recordings(scene, job, reference, gaps, bits)
    return [gaps, bits]


def counted(scene: Scene, jobs: Mapping[str, Job]) -> Finding:
    """7. Restarts are within bounds, lines of the log have their numbers."""
    finding = Finding("7 restarts are within bounds, log lines numbered without gap")
    for job in jobs.values():
        if job.restarts > job.max_restarts:
            finding.fault(f"{job.id}: {job.restarts} restarts, {job.max_restarts} allowed", job.id)
        with scene.stack.database.read() as session:
            lines = eventlog.page(session, job.id, limit=_MOST_LINES)
        if [line.number for line in lines] != list(range(1, job.last_event + 1)):
            finding.fault(f"{job.id}: {len(lines)} lines, the last should be {job.last_event}", job.id)
    return finding


def _compare_recordings(scene: Scene, job: Experiment, reference: Reference, gaps: Finding, bits: Finding) -> None:
    found = scene.stack.recordings(job.id)
    names = [name for name, _ in found]
    if len(set(names)) < len(names) or (job.state is State.SUCCEEDED and set(names) != reference.recordings.keys()):
        odd = sorted(set(names) ^ reference.recordings.keys())[:3]
        gaps.fault(f"{job.id}: {len(names)} of {len(reference.recordings)} recordings, first odd ones {odd}", job.id)
    for name, digest in found:
        if digest != reference.recordings.get(name):
            bits.fault(f"{job.id}: {name} has other bytes", job.id)


def _compare_weights(scene: Scene, job: Experiment, reference: Reference, bits: Finding) -> None:
    with scene.stack.database.read() as session:
        found = checkpoints.listed(session, job.id)
    kinds = sorted(checkpoint.kind for checkpoint in found)
    if kinds != ["best", "last"]:
        bits.fault(f"{job.id}: its checkpoints are {kinds}", job.id)
    for checkpoint in (one for one in found if one.id not in scene.ledger.damaged):
        try:
            digest = references.digest(scene.stack.content(checkpoint))
        except (CheckpointDamaged, CheckpointNotFound):
            continue  # told by the check of rows
        if digest != reference.weights.get(checkpoint.kind):
            bits.fault(f"{job.id}: {checkpoint.kind} of step {checkpoint.step} has other weights", job.id)
