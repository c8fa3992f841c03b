"""Experiments as their owner sees them: submitted, found, ended, deleted.

Invariant: a submitted experiment, its job and the bell that rings its queue are one transaction; a deleted one is gone
at once for every reader, its bytes with later purges (`store.purging`).
"""

from store.experiments.changing import cancel_all, delete, delete_all, edit
from store.experiments.finding import MAX_PAGE, Filters, Mark, Page, get, ids, marks, page
from store.experiments.submitting import Limits, Submission, require_room, submit, submit_many

__all__ = [
    "MAX_PAGE",
    "Filters",
    "Limits",
    "Mark",
    "Page",
    "Submission",
    "cancel_all",
    "delete",
    "delete_all",
    "edit",
    "get",
    "ids",
    "marks",
    "page",
    "require_room",
    "submit",
    "submit_many",
]
