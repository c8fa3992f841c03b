"""What validating a spec costs, alone and as one of many with the same network: `python -m bench.specs`.

CPU of this process, medians. The specs of a sweep share what is found out about their network once; the first of them
pays for it. Wanted: 10,000 of one network of 50 hidden layers in 3 seconds.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from bncore.spec import load_spec

_MANY = 10_000
_REPEATS = 5


def main() -> None:
    """Print a line for each depth."""
    numbers = itertools.count()
    for depth in (3, 50):
        alone = statistics.median(_seconds(_documents(depth, 200, numbers, is_shared=False)) for _ in range(_REPEATS))
        shared = _seconds(_documents(depth, _MANY, numbers, is_shared=True))
        sys.stdout.write(
            f"{depth:3} hidden layers   alone {alone / 200 * 1000:6.3f} ms a spec"
            f"   {_MANY:,} of one network {shared:6.3f} s = {shared / _MANY / (alone / 200):5.2f} of it each\n"
        )


def _documents(depth: int, count: int, numbers: Iterator[int], *, is_shared: bool) -> list[dict[str, Any]]:
    """Specs that differ in seed and learning rate, and unless they share it in their network."""
    made = [next(numbers) for _ in range(count)]
    return [
        {
            "network": {
                "kind": "mlp",
                "hidden": [16] * depth,
                "norm": {"kind": "batch_renorm"},
                "dropout": 0.5 if is_shared else 0.1 + 1e-7 * number,
            },
            "optimizer": {"kind": "sgd", "lr": 0.1 + 1e-7 * number},
            "train": {"steps": 100, "seed": number},
        }
        for number in made
    ]


def _seconds(documents: list[dict[str, Any]]) -> float:
    began = time.process_time()
    for document in documents:
        load_spec(document)
    return time.process_time() - began


if __name__ == "__main__":
    main()
