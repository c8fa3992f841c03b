"""The two processes of `DistributedDataParallel` in `test_pairs.py`: one import, then one fork a process.

Run with a directory, it leaves there what the first process observed of each program, a file a subject.
"""

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tests.bncore.pairs.program import Program
from tests.bncore.pairs.reference import Observed
from tests.bncore.pairs.subjects import Subject, subjects
from tests.bncore.pairs.table import FEATURES, Features, pairs

WORLD = 2


def load(directory: Path, subject: Subject) -> dict[Features, Callable[[], Observed]]:
    """Each program's run, which is what it observed, or raises what it raised."""

    def again(result: Observed | str) -> Observed:
        if isinstance(result, str):
            raise RuntimeError(result)
        return result

    results = torch.load(directory / f"{subject.name}.pt")
    return {features: lambda result=result: again(result) for features, result in results.items()}


def _observed(subject: Subject, features: Features, rank: int) -> Observed | str:
    torch._dynamo.reset()
    try:
        return Program(subject, features, rank, WORLD).run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _rank_main(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    store = f"file://{directory / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=400))
    for subject in subjects():
        results = {pair: _observed(subject, pair, rank) for pair in pairs(FEATURES) if "ddp" in pair}
        if rank == 0:
            torch.save(results, directory / f"{subject.name}.pt")
    dist.destroy_process_group()


def main(directory: Path) -> None:
    """Both processes; the exit status says whether they came to their end."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    fork = multiprocessing.get_context("fork")
    group = [fork.Process(target=_rank_main, args=(rank, directory)) for rank in range(WORLD)]
    for process in group:
        process.start()
    for process in group:
        process.join()
    if any(process.exitcode for process in group):
        sys.exit("not both processes came to their end")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
