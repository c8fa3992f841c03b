"""Evaluations of checkpoints: asked for, found, ended, deleted."""

from store.evaluations.changing import delete
from store.evaluations.finding import get, of_experiment, of_owner
from store.evaluations.submitting import Submission, submit

__all__ = ["Submission", "delete", "get", "of_experiment", "of_owner", "submit"]
