"""The tables, a module a noun. What a column means is said there; who may change it, in the module that does.

Invariant: everything a job makes hangs on its id, and bytes (segments, chunks) hang on rows that are deleted only after
them.
"""

from store.columns import Table
from store.tables.checkpoints import Checkpoint
from store.tables.datasets import Dataset, DatasetUse
from store.tables.evaluations import Evaluation
from store.tables.experiments import Experiment, ExperimentTag
from store.tables.files import Content, ContentChunk, File
from store.tables.idempotency import IdempotencyKey
from store.tables.jobs import Bell, Job, JobEvent
from store.tables.logs import JobLog
from store.tables.metrics import MetricSegment, MetricSeries
from store.tables.owners import ApiKey, Owner
from store.tables.predictions import Prediction
from store.tables.processes import Process
from store.tables.studies import Study, StudyJob, StudyVerdict
from store.tables.sweeps import Sweep, SweepExperiment, SweepRung
from store.tables.uploads import Upload, UploadPart
from store.tables.watches import Watch

__all__ = [
    "ApiKey",
    "Bell",
    "Checkpoint",
    "Content",
    "ContentChunk",
    "Dataset",
    "DatasetUse",
    "Evaluation",
    "Experiment",
    "ExperimentTag",
    "File",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "JobLog",
    "MetricSegment",
    "MetricSeries",
    "Owner",
    "Prediction",
    "Process",
    "Study",
    "StudyJob",
    "StudyVerdict",
    "Sweep",
    "SweepExperiment",
    "SweepRung",
    "Table",
    "Upload",
    "UploadPart",
    "Watch",
]
