"""Warm stacks for the worker's tests, shared by the tests of a module, and the two runs that are disturbed.

Invariant: leases are short here, so that a test about a lost one takes seconds; every other rule is the real one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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

# 24 steps are an epoch: no checkpoint but the last one in a thousand falls on its end.
SPECS: dict[str, dict[str, Any]] = {
    "mlp": {
        "network": {"kind": "mlp", "hidden": [100, 100, 100], "dropout": 0.2, "norm": {"kind": "batch_renorm"}},
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9},
        "train": {"steps": 2500, "seed": 3},
        "evaluation": {"every_steps": 130},
        "checkpoint": {"every_steps": 350},
        "max_restarts": 2,
    },
    "cnn": {
        "network": {"kind": "cnn", "channels": [8, 16], "norm": {"kind": "batch_norm"}},
        "optimizer": {"kind": "adam", "lr": 0.003},
        "train": {"steps": 900, "seed": 4},
        "evaluation": {"every_steps": 70},
        "checkpoint": {"every_steps": 130},
        "max_restarts": 2,
    },
}


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Make a stack over a database and a broker; nothing is started yet."""
    with ExitStack() as stacks:

        def make(database_url: str, redis_url: str, **environment: str) -> Stack:
            directory = tmp_path / "stack"
            directory.mkdir()
            return stacks.enter_context(Stack(directory, database_url, redis_url, **{**QUICK, **environment}))

        yield make


@pytest.fixture
def specs() -> dict[str, dict[str, Any]]:
    """Dropout, running statistics and momentum; convolutions and Adam."""
    return SPECS
