"""Warm stacks for the worker's tests, shared by the tests of a module, and the two runs that are disturbed.

Invariant: leases are short here, so that a test about a lost one takes seconds; every other rule is the real one.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RedisServer, free_port
from tests.stack import Stack

LEASE_SECONDS = 2.0
QUICK = {
    "BNLAB_LEASE_SECONDS": str(LEASE_SECONDS),
    "BNLAB_TICK_SECONDS": "0.4",
    "BNLAB_FLUSH_SECONDS": "0.1",
    "BNLAB_HEARTBEAT_SECONDS": "1",
    "BNLAB_LOOK_SECONDS": "0.5",
    "BNLAB_GRACE_SECONDS": "20",
    "BNLAB_PURGE_SECONDS": "3600",
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
def make_stack(tmp_path: Path, redis_url: str) -> Iterator[Callable[..., Stack]]:
    """Make a stack over a database; nothing is started in it yet."""
    with ExitStack() as stacks:

        def make(database_url: str, **environment: str) -> Stack:
            directory = tmp_path / "stack"
            directory.mkdir()
            return stacks.enter_context(Stack(directory, database_url, redis_url, **{**QUICK, **environment}))

        yield make


@pytest.fixture(scope="package")
def broker() -> Iterator[RedisServer]:
    """The broker of `small_stack`, to stop and start again."""
    server = RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def small_stack(
    broker: RedisServer, migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Relay, one warm worker, SQLite. Whoever stops something starts it again."""
    directory = tmp_path_factory.mktemp("stack")
    shutil.copyfile(migrated_sqlite, directory / "bnlab.db")
    environment = {**QUICK, "BNLAB_PORT": str(free_port())}
    with Stack(directory, f"sqlite:///{directory}/bnlab.db", broker.url, **environment) as stack:
        stack.start_warm("relay", "worker")
        yield stack


@pytest.fixture
def specs() -> dict[str, dict[str, Any]]:
    """Dropout, running statistics and momentum; convolutions and Adam."""
    return SPECS
