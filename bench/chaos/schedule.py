"""What is done when, and to which: a pure function of seed, length and kind of database.

Invariant: every kind comes once a round, so a run that is long enough for a round has had them all.
"""

import random
from dataclasses import dataclass
from typing import Literal

DatabaseKind = Literal["sqlite", "postgresql"]


@dataclass(frozen=True)
class Kind:
    """Something that can be done: how often a round, and for how long."""

    name: str
    weight: int
    shortest_seconds: float = 0.0
    longest_seconds: float = 0.0
    only_on: DatabaseKind | None = None


@dataclass(frozen=True)
class Action:
    """`choice`, in [0, 1), says which of those that there are at the time."""

    number: int
    at_seconds: float
    kind: str
    choice: float
    lasts_seconds: float


KINDS = (
    Kind("trainer_killed", 5),
    Kind("trainer_stopped", 4, 0.2, 9.0),
    Kind("trainer_terminated", 3),
    Kind("zygote_killed", 3),
    Kind("zygote_stopped", 2, 0.2, 6.0),
    Kind("zygote_terminated", 2),
    Kind("worker_killed", 4, 0.0, 6.0),
    Kind("worker_stopped", 3, 0.3, 8.0),
    Kind("worker_terminated", 3, 0.0, 4.0),
    Kind("worker_and_trainer_killed", 2, 0.0, 4.0),
    Kind("worker_killed_while_trainer_stopped", 1, 0.0, 4.0),
    Kind("worker_and_trainer_stopped", 2, 0.3, 8.0),
    Kind("relay_killed", 2, 0.0, 5.0),
    Kind("relay_stopped", 1, 0.3, 8.0),
    Kind("relay_terminated", 1, 0.0, 5.0),
    Kind("api_killed", 2, 0.0, 3.0),
    Kind("api_stopped", 1, 0.3, 5.0),
    Kind("api_terminated", 1, 0.0, 3.0),
    Kind("api_answers_lost", 2, 0.1, 2.0),
    Kind("redis_killed_data_lost", 1, 0.0, 6.0),
    Kind("redis_killed_data_kept", 1, 0.0, 6.0),
    Kind("redis_stopped", 1, 0.3, 6.0),
    Kind("redis_connections_cut", 2, 0.1, 6.0),
    Kind("redis_answers_lost", 1, 0.1, 4.0),
    Kind("postgresql_shut_down", 1, 0.0, 5.0, "postgresql"),
    Kind("postgresql_crashed", 1, 0.0, 5.0, "postgresql"),
    Kind("postgresql_stopped", 1, 0.5, 9.0, "postgresql"),
    Kind("database_connections_cut", 3, 0.1, 9.0, "postgresql"),
    Kind("database_connections_dropped", 2, 0.0, 0.0, "postgresql"),
    Kind("database_answers_lost", 3, 0.1, 4.0, "postgresql"),
    Kind("tables_locked", 3, 0.3, 7.0),
    Kind("disk_filled", 1, 1.0, 8.0),
    Kind("checkpoint_damaged", 5),
    Kind("job_paused", 4, 0.2, 8.0),
    Kind("job_cancelled", 2),
    Kind("job_killed", 1),
    Kind("job_retried", 3),
)


def schedule(seed: int, seconds: float, database: DatabaseKind, *, mean_gap_seconds: float = 3.0) -> list[Action]:
    """The actions of a run of that length, in order of time."""
    dice = random.Random(f"{database} {seed}")
    kinds = [kind for kind in KINDS if kind.only_on in (None, database)]
    actions: list[Action] = []
    at, waiting = 0.0, list[Kind]()
    while True:
        at += dice.expovariate(1.0 / mean_gap_seconds)
        if at >= seconds:
            return actions
        waiting = waiting or _round(dice, kinds)
        kind = waiting.pop()
        lasts = dice.uniform(kind.shortest_seconds, kind.longest_seconds)
        actions.append(Action(len(actions) + 1, at, kind.name, dice.random(), lasts))


def _round(dice: random.Random, kinds: list[Kind]) -> list[Kind]:
    """Taken from its end: first each kind once, then the rest of the weights."""
    once = dice.sample(kinds, len(kinds))
    more = [kind for kind in kinds for _ in range(kind.weight - 1)]
    dice.shuffle(more)
    return [*more, *once]
