"""The error for a job that is not there, by the prefix of its id."""

from store.errors import DatasetNotFound, EvaluationNotFound, ExperimentNotFound, JobNotFound, PredictionNotFound
from store.study_errors import StudyNotFound


def job_not_found(job_id: str) -> JobNotFound:
    """The error for an id, whose prefix says what it would be."""
    kinds = {
        "exp_": ExperimentNotFound,
        "dat_": DatasetNotFound,
        "evl_": EvaluationNotFound,
        "prd_": PredictionNotFound,
        "stu_": StudyNotFound,
    }
    return kinds.get(job_id[:4], JobNotFound)(job_id)
