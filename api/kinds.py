"""Kinds of jobs as routes know them: where each lies, how one is found and shown.

Invariant: what holds for all kinds is written once, and each kind has all of it.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from api.deps import DatasetId, EvaluationId, ExperimentId, StudyId
from api.shown import Shown
from api.shown.datasets import Dataset
from api.shown.evaluations import Evaluation
from api.shown.experiments import Experiment
from api.shown.studies import StudyNow
from api.shown.waiting import Living
from store import evaluations, experiments, files, queueing, studies, tables
from store.datasets import changing, finding
from store.jobs.wishes import By
from store.queueing import Limits


@dataclass(frozen=True)
class Kind:
    """One kind: its name, the addresses and the tag under which it is described, the form of its ids."""

    name: str
    path: str
    tag: str
    id: Any
    model: type[Shown]
    get: Callable[..., tables.Job]
    """(session, id, owner=...). Raises `JobNotFound`."""
    show: Callable[[Session, Any, Living], Shown]
    retry: Callable[[Session, str, By, Limits], None] = queueing.retry

    @property
    def parameter(self) -> str:
        """What its id is called in addresses."""
        return f"{self.name}_id"

    def route(self, route: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        """A route of any kind, which takes `kind` and `job_id`, as the one of this kind that is called `name`."""

        @functools.wraps(route)
        async def of_kind(**given: Any) -> Any:
            return await route(kind=self, job_id=given.pop(self.parameter), **given)

        said = inspect.signature(route)
        own = inspect.Parameter(self.parameter, inspect.Parameter.KEYWORD_ONLY, annotation=self.id)
        others = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in said.parameters.values()
            if parameter.name not in ("kind", "job_id")
        ]
        # What the framework reads; it calls routes by keyword.
        setattr(of_kind, "__signature__", said.replace(parameters=[own, *others]))  # noqa: B010  (mypy refuses it)
        of_kind.__name__ = name
        return of_kind


EXPERIMENTS = Kind(
    "experiment",
    "/v1/experiments",
    "experiments",
    ExperimentId,
    Experiment,
    experiments.get,
    lambda _session, row, living: Experiment.of(row, living),
)
DATASETS = Kind(
    "dataset",
    "/v1/datasets",
    "datasets",
    DatasetId,
    Dataset,
    finding.get,
    lambda _session, row, living: Dataset.of(row, living),
    changing.retry,
)
EVALUATIONS = Kind(
    "evaluation",
    "/v1/evaluations",
    "evaluations",
    EvaluationId,
    Evaluation,
    evaluations.get,
    lambda session, row, living: Evaluation.of(row, files.of_job(session, row.id), living),
)
KINDS = (EXPERIMENTS, DATASETS, EVALUATIONS)
STUDIES = Kind(
    "study",
    "/v1/studies",
    "studies",
    StudyId,
    StudyNow,
    studies.get,
    lambda session, row, living: StudyNow.seen(row, studies.standing(session, row.id), living),
)
RECORDED = (*KINDS, STUDIES)
"""What is asked of a study is asked of all its experiments, too, and so is its own; its log is like any other."""
