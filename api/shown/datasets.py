"""Data sets that owners brought in, from the first part of an upload to the report of its import."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from api.shown import Shown, maybe_utc, utc
from api.shown.experiments import Failure, failure_of
from api.shown.files import File
from api.shown.waiting import Living, waiting_for
from store import tables
from store.jobs.states import TERMINAL

UPLOADING = "uploading"


class UploadPart(Shown):
    number: int
    size: int
    sha256: str

    @classmethod
    def of(cls, row: tables.UploadPart) -> "UploadPart":
        return cls(number=row.number, size=row.size, sha256=row.sha256)


class UploadParts(Shown):
    """What is there of an upload."""

    data: list[UploadPart] = Field(description="Those that are whole, by their numbers.")
    part_max_bytes: int
    upload_max_bytes: int = Field(description="Of all parts together.")
    expires_at: datetime = Field(description="What is not completed by then is forgotten.")


class Source(Shown):
    """What was uploaded."""

    file_name: str
    size: int | None
    sha256: str | None


class DatasetLinks(Shown):
    """Addresses on this server, without its name."""

    self_: str = Field(alias="self")
    parts: str
    complete: str
    report: str
    files: str
    contact_sheet: str
    events: str
    attempts: str
    logs: str
    cancel: str
    kill: str
    pause: str
    resume: str
    retry: str


class Dataset(Shown):
    """Data that an owner brought in."""

    id: str
    owner: str
    name: str
    state: str = Field(description="uploading; then that of its import: queued, running, succeeded, failed and so on.")
    is_terminal: bool = Field(description="Nothing will change any more.")
    desired: str | None = Field(description="What was asked of a running import and is not done yet.")
    phase: str | None = Field(description="restoring, reading, checking or writing; while running.")
    waiting_for: str | None = Field(description="In words, while it is queued: a worker, a time.")
    attempt: int
    failure: Failure | None = Field(description="Why it cannot be used.")
    source: Source
    options: dict[str, Any] = Field(description="How it was to be read; what was left out the report says.")
    sha256: str | None = Field(description="Of the canonical form: it stands for all of the content.")
    signal: dict[str, Any] | None = Field(description="What an example is: kind, shape, whether it has lengths.")
    task: str | None = Field(description="classification, tagging or regression.")
    outputs: int | None
    examples: dict[str, int] | None = Field(description="Of each part that there is.")
    created_at: datetime
    finished_at: datetime | None
    links: DatasetLinks

    @classmethod
    def of(cls, row: tables.Dataset, living: Living) -> "Dataset":
        return cls(**_facts(row, living))

    @classmethod
    def uploading(cls, row: tables.Upload) -> "Dataset":
        return cls(**_upload_facts(row))


class DatasetNow(Dataset):
    """One of them, looked at by itself."""

    classes: list[str] | None = Field(description="Their names, in the order of their numbers.")
    report: dict[str, Any] | None = Field(description="What was found in it; once imported.")
    upload: UploadParts | None = Field(description="While it is uploaded.")

    @classmethod
    def seen(cls, row: tables.Dataset, living: Living) -> "DatasetNow":
        classes = (row.manifest or {}).get("classes")
        return cls(**_facts(row, living), classes=classes, report=row.report, upload=None)

    @classmethod
    def uploaded_to(cls, row: tables.Upload, parts: UploadParts) -> "DatasetNow":
        return cls(**_upload_facts(row), classes=None, report=None, upload=parts)


class CompletedDataset(DatasetNow):
    """A data set after its upload was completed."""

    already_there: bool = Field(description="The same file, to be read in the same way, had been brought before.")


class DatasetFiles(Shown):
    data: list[File]

    @classmethod
    def of(cls, rows: Sequence[tables.File]) -> "DatasetFiles":
        return cls(data=[File.of(row) for row in rows])


def _facts(row: tables.Dataset, living: Living) -> dict[str, Any]:
    manifest = row.manifest or {}
    parts = manifest.get("parts")
    return {
        "id": row.id,
        "owner": row.owner,
        "name": row.name,
        "state": row.state,
        "is_terminal": row.state in TERMINAL,
        "desired": row.desired,
        "phase": row.phase,
        "waiting_for": waiting_for(row, living),
        "attempt": row.attempt,
        "failure": failure_of(row),
        "source": Source(file_name=row.file_name, size=row.source_size, sha256=row.source_sha256),
        "options": row.spec,
        "sha256": row.sha256,
        "signal": manifest.get("signal"),
        "task": manifest.get("task"),
        "outputs": manifest.get("outputs"),
        "examples": None if parts is None else {name: part["examples"] for name, part in parts.items() if part},
        "created_at": utc(row.created_at),
        "finished_at": maybe_utc(row.finished_at),
        "links": _links(row.id),
    }


def _upload_facts(row: tables.Upload) -> dict[str, Any]:
    unknown = ("desired", "phase", "waiting_for", "failure", "sha256", "signal", "task", "outputs", "examples")
    return {
        **dict.fromkeys((*unknown, "finished_at")),
        "id": row.id,
        "owner": row.owner,
        "name": row.name,
        "state": UPLOADING,
        "is_terminal": False,
        "attempt": 0,
        "source": Source(file_name=row.file_name, size=None, sha256=None),
        "options": row.spec,
        "created_at": utc(row.created_at),
        "links": _links(row.id),
    }


def _links(dataset_id: str) -> DatasetLinks:
    base = f"/v1/datasets/{dataset_id}"
    names = [name for name in DatasetLinks.model_fields if name != "self_"]
    return DatasetLinks(self_=base, **{name: f"{base}/{name.replace('_', '-')}" for name in names})
