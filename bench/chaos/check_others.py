"""What has to be true of imports, evaluations and predictions when everything is healed and at its end."""

from collections import Counter, deque
from collections.abc import Mapping

from sqlalchemy import func, select

from bench.chaos.other_kinds import Undisturbed
from bench.chaos.report import Finding
from bench.chaos.scene import Scene
from store import files, held
from store.database import clock
from store.errors import FileDamaged, FileNotFound
from store.jobs.states import State
from store.predictions.asking import FORGOTTEN_SECONDS
from store.tables import Dataset, Evaluation, File, Job, Upload, UploadPart

_SLACK_SECONDS = 30.0


def results(scene: Scene, jobs: Mapping[str, Job], undisturbed: Undisturbed) -> Finding:
    """5. What was imported and measured is what comes of it undisturbed, bit for bit, with all its files."""
    finding = Finding("5a data sets and evaluations are as undisturbed, and whole")
    names = {job_id: scene.ledger.spec_of[key] for key, job_id in scene.ledger.acknowledged.items()}
    for job in jobs.values():
        if job.state is not State.SUCCEEDED:
            continue
        if isinstance(job, Dataset):
            if job.sha256 != undisturbed.sha256:
                finding.fault(f"{job.id} has the SHA-256 {job.sha256}, not {undisturbed.sha256}", job.id)
            _read_files(scene, job.id, finding)
        elif isinstance(job, Evaluation):
            if job.result != undisturbed.results[names[job.id]]:
                finding.fault(f"{job.id} ({names[job.id]}) has another result", job.id)
            _read_files(scene, job.id, finding)
    predictions = scene.ledger.predictions
    finding.note = f"{predictions['right']} predictions right, {predictions['unanswered']} unanswered"
    return finding


def left(scene: Scene) -> Finding:
    """6. No upload, no part of one, no prediction that nobody waits for, no checkpoint held for nothing."""
    finding = Finding("6c nothing is left of uploads, predictions and evaluations")
    with scene.stack.database.read() as session:
        for what, statement in (
            ("uploads that are not completed", select(func.count()).where(Upload.dataset_id.is_(None))),
            ("parts of uploads that are", select(func.count()).select_from(UploadPart)),
            (
                "predictions that are not forgotten",
                select(func.count()).where(
                    Job.kind == "prediction", Job.finished_at < clock() - FORGOTTEN_SECONDS - _SLACK_SECONDS
                ),
            ),
            (
                "checkpoints held by evaluations that have succeeded",
                select(func.count())
                .select_from(File)
                .join(Job, Job.id == File.job_id)
                .where(File.kind == held.KIND, File.dropped_at.is_(None), Job.state == State.SUCCEEDED)
                .where(Job.kind == "evaluation"),
            ),
        ):
            count = session.execute(statement).scalar_one()
            if count:
                finding.fault(f"{count} {what}")
    return finding


def cache(scene: Scene, undisturbed: Undisturbed) -> Finding:
    """6. Of the data sets on this host: whole ones alone."""
    finding = Finding("6d data sets on this host are whole")
    folder = scene.runs_dir / "datasets"
    with scene.stack.database.read() as session:
        wanted = {row.name: row for row in files.of_job(session, undisturbed.dataset_id)}
    for path in sorted(folder.glob("*")):
        if not path.is_dir():
            continue
        if path.suffix == ".part":
            if path.with_suffix("").exists():
                finding.fault(f"{path.name} is left beside the whole one")
        elif path.name == undisturbed.sha256:
            for file in path.iterdir():
                stored = b"".join(files.read(scene.stack.database, wanted[file.name].id))
                if stored != file.read_bytes():
                    finding.fault(f"{path.name}/{file.name} is not what is stored")
        else:
            finding.fault(f"{path.name} is no data set that is read")
    return finding


def ends(jobs: Mapping[str, Job]) -> Counter[str]:
    """How many of each kind there are in each state."""
    return Counter(f"{job.kind}s {job.state.value}" for job in jobs.values())


def _read_files(scene: Scene, job_id: str, finding: Finding) -> None:
    with scene.stack.database.read() as session:
        mine = files.of_job(session, job_id)
    if not mine and job_id.startswith("dat_"):
        finding.fault(f"{job_id} has no files", job_id)
    for file in mine:
        try:
            deque(files.read(scene.stack.database, file.id), maxlen=0)
        except (FileDamaged, FileNotFound) as error:
            finding.fault(f"{file.name} of {job_id}: {error}", job_id)
