"""Sweeps as their owner sees them: submitted with all their experiments, found, followed, changed, measured.

Invariant: a sweep and its experiments are one transaction, and so is every change of all of them. It has no state of
its own: what it is doing is counted from its experiments' jobs, by one statement.
"""

from store.sweeps.changing import cancel, delete, pause, resume, retry
from store.sweeps.finding import Member, Members, axes_of, get, members, of_experiment, page
from store.sweeps.foreseeing import foreseen
from store.sweeps.measuring import MeasuredPoint, measured
from store.sweeps.rungs import Ended, Rung
from store.sweeps.standing import Standing, mark_of, marks, standing, standings, state_of
from store.sweeps.submitting import SweepSubmission, extend, extend_once, fingerprint_of, replayed, submit, submit_once

__all__ = [
    "Ended",
    "MeasuredPoint",
    "Member",
    "Members",
    "Rung",
    "Standing",
    "SweepSubmission",
    "axes_of",
    "cancel",
    "delete",
    "extend",
    "extend_once",
    "fingerprint_of",
    "foreseen",
    "get",
    "mark_of",
    "marks",
    "measured",
    "members",
    "of_experiment",
    "page",
    "pause",
    "replayed",
    "resume",
    "retry",
    "standing",
    "standings",
    "state_of",
    "submit",
    "submit_once",
]
