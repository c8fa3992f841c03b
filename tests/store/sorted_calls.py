"""Sorted listings, each with its first page and a further one, where filters leave few and where they leave many."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import patch

from store import experiments
from store.experiments import SORTS, Filters, Order, ranking


def sorted_listings(
    reading: Callable[..., Callable[[], object]], every: Mapping[str, Filters]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """By each sort in both directions; those of a column with every filter."""
    for name in SORTS:
        chosen = every if name in ranking.RANKS else {one: every[one] for one in ("all", "an owner's", "two tags")}
        for said, filters in chosen.items():
            for order in (Order(name), Order(name, downwards=True)):
                yield from _pages(reading, order, filters, f"{said} by {order}")


def _pages(
    reading: Callable[..., Callable[[], object]], order: Order, filters: Filters, said: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    for most in (ranking.FEW, 0):
        cursor: list[str | None] = [None]

        def page(session: Any, most: int = most, cursor: list[str | None] = cursor) -> None:
            # Other numbers of rows, not another thing that is done.
            with patch.object(ranking, "FEW", most):
                cursor[0] = experiments.sorted_page(session, filters, order, cursor[0]).next_cursor

        yield f"list {said}, few are {most}", reading(page)
        yield f"list {said}, few are {most}, further", reading(page)
