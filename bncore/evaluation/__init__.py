"""Checkpoints measured on data from elsewhere, with the statistics that they have and with others."""

from bncore.evaluation.measuring import evaluate
from bncore.evaluation.run import run_evaluation

__all__ = ["evaluate", "run_evaluation"]
