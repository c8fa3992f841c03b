"""Experiments as their owner sees them: submitted, found, ended, deleted.

Invariant: a submitted experiment, its job and the bell that rings its queue are one transaction; a deleted one is gone
at once for every reader, its bytes with later purges (`store.purging`).
"""

from store.experiments.changing import cancel_all, delete, delete_all, delete_these, edit, lock
from store.experiments.comparing import MOST_COMPARED, compared
from store.experiments.finding import (
    MAX_PAGE,
    MOST_AHEAD,
    Mark,
    Page,
    Sight,
    get,
    ids,
    look,
    marks,
    page,
    sorted_page,
    visible,
)
from store.experiments.listing import Filters
from store.experiments.near import Near, near
from store.experiments.sorting import SORTS, Order, order_of
from store.experiments.standing import Standing, standing
from store.experiments.submitting import Submission, submit, submit_ids, submit_many

__all__ = [
    "MAX_PAGE",
    "MOST_AHEAD",
    "MOST_COMPARED",
    "SORTS",
    "Filters",
    "Mark",
    "Near",
    "Order",
    "Page",
    "Sight",
    "Standing",
    "Submission",
    "cancel_all",
    "compared",
    "delete",
    "delete_all",
    "delete_these",
    "edit",
    "get",
    "ids",
    "lock",
    "look",
    "marks",
    "near",
    "order_of",
    "page",
    "sorted_page",
    "standing",
    "submit",
    "submit_ids",
    "submit_many",
    "visible",
]
