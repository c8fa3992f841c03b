"""Warm stacks for the worker's tests, shared where a test leaves one as it found it.

Invariant: leases are short here, so that a test about a lost one takes seconds; every other rule is the real one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.stack import Stack

QUICK = {
    "BNLAB_LEASE_SECONDS": "2",
    "BNLAB_TICK_SECONDS": "0.4",
    "BNLAB_FLUSH_SECONDS": "0.1",
    "BNLAB_HEARTBEAT_SECONDS": "1",
    "BNLAB_RERING_SECONDS": "0.5",
    "BNLAB_GRACE_SECONDS": "20",
}


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Make stacks over a database and a broker; nothing is started yet."""
    with ExitStack() as stacks:

        def make(database_url: str, redis_url: str, **environment: str) -> Stack:
            directory = tmp_path / "stack"
            directory.mkdir()
            return stacks.enter_context(Stack(directory, database_url, redis_url, **{**QUICK, **environment}))

        yield make
