"""Figures asked of one API process: `python -m bench.figures`. What they cost those who ask for none, and its memory.

200 PNGs one after another, in both themes; then 50 at once while somebody else looks at an experiment again and again.
Wanted: no more than 10 MB of memory gained, none of the 50 lost, and p99 of the others within 2 times of what it is
without (issue 11). Figures mean something on idle cores only.
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.service import Service, running_service
from bncore.events import MetricsBlock
from store import results, work
from store.database import Database
from store.jobs import leases

RENDERS, AT_ONCE = 200, 50
MOST_GAINED_MB, MOST_SLOWER = 10.0, 2.0
_WARM = 10
_POINTS = 2000
_LEASE_SECONDS = 600.0
_CALM_SECONDS = 10.0


def main() -> None:
    """Print what was answered, what memory was gained, and how long the others waited."""
    directory = Path(tempfile.mkdtemp(prefix="bnlab-figures-"))
    url = f"sqlite:///{directory}/bnlab.db"
    try:
        with running_service(directory, url) as service:
            asyncio.run(_measure(service, _store_series(url)))
    finally:
        shutil.rmtree(directory)


async def _measure(service: Service, experiment_id: str) -> None:
    def picture(theme: str) -> bytes:
        return service.request("GET", f"/v1/experiments/{experiment_id}/figures/curves.png?theme={theme}")

    for _ in range(_WARM):
        await _ask(service, picture("light"))
    before = service.process.memory_info().rss
    taken = [(await _ask(service, picture("dark" if number % 2 else "light")))[1] for number in range(RENDERS)]
    gained = (service.process.memory_info().rss - before) / 1e6
    (child,) = service.process.children()
    _say(f"{RENDERS} renders: median {statistics.median(taken):.3f} s, worst {max(taken):.3f} s")
    _say(f"memory gained by the API: {gained:.1f} MB, at most {MOST_GAINED_MB:g}; beside it {_mb(child):.0f} MB")
    calm = await _looking(service, experiment_id, asyncio.create_task(asyncio.sleep(_CALM_SECONDS)))
    crowd = asyncio.gather(*(_ask(service, picture("light")) for _ in range(AT_ONCE)))
    crowded = await _looking(service, experiment_id, crowd)
    answered = await crowd
    statuses, last = [status for status, _ in answered], max(seconds for _, seconds in answered)
    ratio = crowded / calm
    _say(f"{AT_ONCE} at once: {statuses.count('200')} answered 200, the last after {last:.1f} s")
    _say(f"p99 of others: {calm * 1000:.1f} ms without, {crowded * 1000:.1f} ms with; {ratio:.2f} times, at most 2")
    if gained > MOST_GAINED_MB or statuses != ["200"] * AT_ONCE or ratio > MOST_SLOWER:
        sys.exit(1)


async def _looking(service: Service, experiment_id: str, until: "asyncio.Future[Any]") -> float:
    """The 99th percentile of looking at an experiment for so long, in seconds."""
    look = service.request("GET", f"/v1/experiments/{experiment_id}")
    taken = []
    while not until.done():
        status, seconds = await _ask(service, look)
        assert status == "200"
        taken.append(seconds)
        await asyncio.sleep(0.01)
    return statistics.quantiles(taken, n=100)[98]


async def _ask(service: Service, request: bytes) -> tuple[str, float]:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    await reader.readexactly(next(int(line[15:]) for line in lines if line.startswith(b"content-length:")))
    writer.close()
    return head.split(b" ", 2)[1].decode(), time.monotonic() - began


def _store_series(database_url: str) -> str:
    """An experiment that has two series of 2,000 points."""
    database = Database(database_url)
    worker = leases.Worker("prc_bench", "cpu", "some model", "2.13.0")
    with database.write() as session:
        claim = work.take(session, worker, leases.Terms(_LEASE_SECONDS), leases.new_token())
    assert claim is not None
    loss = np.exp(-np.arange(_POINTS) / 300) + 0.1
    block = {"train/loss": loss.tolist(), "test/accuracy": (1 - loss).tolist()}
    with database.write() as session:
        results.append(session, claim.lease, [MetricsBlock(first_step=1, count=_POINTS, values=block)])
    database.dispose()
    return claim.lease.job_id


def _mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
