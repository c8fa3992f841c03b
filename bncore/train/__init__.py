"""One attempt at one experiment: the loop, what it measures, what it saves."""

from bncore.train.attempt import run_attempt

__all__ = ["run_attempt"]
