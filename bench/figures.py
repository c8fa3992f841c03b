"""Figures asked of one API process: `python -m bench.figures`. What they cost those who ask for none, and its memory.

200 PNGs one after another, in both themes. Then, in three rounds, somebody looks at an experiment again and again: with
nothing else asked; while 50 figures are; and while a process that has nothing to do with the service draws the same
figure (`bench.neighbour`), which is what the machine does to others where cores are few. Wanted: at most 10 MB of
memory gained, none of the 50 lost, and p99 of looking within 2 times of what it is without (issue 11); medians of the
rounds. Figures mean something on idle cores only.
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from bench.service import Service, running_service
from bncore.events import MetricsBlock
from bncore.figures.results import Steps, Values
from store import results, work
from store.database import Database
from store.jobs import leases

RENDERS, AT_ONCE, ROUNDS = 200, 50, 3
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
    rounds = [await _round(service, experiment_id, picture("light")) for _ in range(ROUNDS)]
    calm, crowded, beside = (statistics.median(column) for column in zip(*(one.p99 for one in rounds), strict=True))
    ratio, of_machine = (
        statistics.median(one.p99[place] / one.p99[0] for one in rounds) for place in (_CROWDED, _BESIDE)
    )
    lost = sum(one.lost for one in rounds)
    last = max(one.seconds for one in rounds)
    _say(f"{AT_ONCE} at once, {ROUNDS} times: {lost} of them not answered by 200, the last after {last:.1f} s")
    _say(f"p99 of others: {calm * 1000:.1f} ms without, {crowded * 1000:.1f} ms with; {ratio:.2f} times, at most 2")
    _say(f"beside a process that draws the same for nobody: {beside * 1000:.1f} ms; {of_machine:.2f} times")
    if gained > MOST_GAINED_MB or lost or ratio > MOST_SLOWER:
        sys.exit(1)


_CROWDED, _BESIDE = 1, 2


class _Round(NamedTuple):
    """Seconds; `p99` of looking: alone, beside figures, beside a neighbour."""

    p99: tuple[float, float, float]
    lost: int
    seconds: float


async def _round(service: Service, experiment_id: str, picture: bytes) -> _Round:
    calm = await _looking(service, experiment_id, _calm())
    began = time.monotonic()
    crowd = asyncio.gather(*(_ask(service, picture) for _ in range(AT_ONCE)))
    crowded = await _looking(service, experiment_id, crowd)
    seconds = time.monotonic() - began
    statuses = [status for status, _ in await crowd]
    async with _neighbour():
        beside = await _looking(service, experiment_id, _calm())
    return _Round((calm, crowded, beside), AT_ONCE - statuses.count("200"), seconds)


def _calm() -> "asyncio.Future[None]":
    return asyncio.ensure_future(asyncio.sleep(_CALM_SECONDS))


@asynccontextmanager
async def _neighbour() -> AsyncIterator[None]:
    """Within it, somebody draws."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.neighbour"),
        stdout=asyncio.subprocess.PIPE,
        # As the one beside the API: Linux shares cores among sessions first.
        start_new_session=True,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"drawing\n"
    try:
        yield
    finally:
        process.kill()
        await process.wait()


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


def series_drawn() -> dict[str, tuple[Steps, Values]]:
    """Two series of 2,000 points, by their keys."""
    steps = np.arange(1, _POINTS + 1)
    loss = np.exp(-(steps - 1) / 300) + 0.1
    return {"train/loss": (steps, loss), "test/accuracy": (steps, 1 - loss)}


def _store_series(database_url: str) -> str:
    """An experiment that has them."""
    database = Database(database_url)
    worker = leases.Worker("prc_bench", "cpu", "some model", "2.13.0")
    with database.write() as session:
        claim = work.take(session, worker, leases.Terms(_LEASE_SECONDS), leases.new_token())
    assert claim is not None
    block = {key: values.tolist() for key, (_, values) in series_drawn().items()}
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
