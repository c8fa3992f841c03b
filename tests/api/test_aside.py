"""A process beside the API: it says what comes of a function, and no function takes more with it than itself."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from starlette.requests import Request

from api.aside.line import Line
from api.aside.pool import Aside, Limits, Work
from api.refusals import AsideLost, AsideRefused
from bncore.figures.asked import packed

MEGABYTE = 1 << 20
MEMORY = 256 * MEGABYTE


async def _stays() -> dict[str, Any]:
    await asyncio.sleep(3600)
    return {"type": "http.disconnect"}


def ask(aside: Aside, function: str, blobs: list[bytes] | None = None, owner: str = "own_test", **asked: Any) -> Any:
    async def prepare() -> Work:
        return Work(asked, blobs or [])

    return aside.run(Request({"type": "http"}, _stays), owner, f"tests.api.aside_functions:{function}", prepare)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return Limits(
        cpu_seconds=20.0, stuck_seconds=120.0, wait_seconds=120.0, waiting=10, idle_seconds=60.0, memory_bytes=MEMORY
    )


def test_bytes_come_and_go_whole_and_in_turn(limits: Limits) -> None:
    async def run() -> None:
        aside = Aside(limits)
        large = bytes(range(256)) * (8 * MEGABYTE // 256)
        answers = await asyncio.gather(*(ask(aside, "turned", [large, b"ab"], word=number) for number in range(3)))
        assert answers == [large[::-1] + b"ba" + str(number).encode() for number in range(3)]
        first = aside.pid
        with pytest.raises(AsideRefused, match="not this") as refused:
            await ask(aside, "refusing")
        assert refused.value.facts == {"reason": "unwilling"}
        with pytest.raises(RuntimeError, match="nobody foresaw"):
            await ask(aside, "failing")
        assert aside.pid == first
        aside.close()

    asyncio.run(run())


def test_what_takes_too_much_memory_is_lost_alone(limits: Limits) -> None:
    async def run() -> None:
        aside = Aside(limits)
        results = await asyncio.gather(
            ask(aside, "hungry", bytes=512 * MEGABYTE), ask(aside, "turned", [b"ab"], word=1), return_exceptions=True
        )
        assert [type(results[0]), results[1]] == [AsideLost, b"ba1"]
        aside.close()

    asyncio.run(run())


def test_what_takes_too_much_cpu_time_is_lost_alone(limits: Limits) -> None:
    """By the kernel: a library that spins may hold Python's lock, and nothing would be heard."""

    async def run() -> None:
        aside = Aside(replace(limits, cpu_seconds=1.0))
        asked = (ask(aside, "burning", cpu_seconds=seconds) for seconds in (3600.0, 0.6, 0.6))
        lost, *others = await asyncio.gather(*asked, return_exceptions=True)
        assert type(lost) is AsideLost
        assert lost.headers == {"Retry-After": "1"}
        # Each has its own: together these two took more than one may.
        assert others == [b"burnt", b"burnt"]
        aside.close()

    asyncio.run(run())


@contextmanager
def busy(process: int, count: int) -> Iterator[None]:
    """So many processes that do nothing but take time, on the one core that is left to this one, too."""
    core = psutil.Process(process).cpu_affinity()[:1]
    psutil.Process(process).cpu_affinity(core)
    takers = [psutil.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        for taker in takers:
            taker.cpu_affinity(core)
        yield
    finally:
        for taker in takers:
            taker.kill()
            taker.wait()


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="processes cannot be held on a core here")
def test_a_busy_machine_changes_nothing_but_how_long_it_takes(limits: Limits) -> None:
    async def run() -> None:
        aside = Aside(replace(limits, cpu_seconds=1.0))
        await ask(aside, "turned", word=0)
        assert aside.pid is not None
        with busy(aside.pid, 6):
            assert await ask(aside, "burning", cpu_seconds=0.5) == b"burnt"
        # Longer by the clock than it may compute.
        assert await ask(aside, "slow", seconds=1.5) == b"late"
        aside.close()

    asyncio.run(run())


def test_what_stands_still_is_ended(limits: Limits) -> None:
    async def run() -> None:
        aside = Aside(replace(limits, stuck_seconds=0.5))
        with pytest.raises(AsideLost):
            await ask(aside, "slow", seconds=3600)
        assert aside.pid is None
        assert not aside.is_busy

    asyncio.run(run())


def test_owners_take_turns_however_much_one_asks_for(limits: Limits) -> None:
    async def run() -> None:
        aside, order = Aside(limits), []

        async def one(owner: str, number: int) -> None:
            await ask(aside, "turned", owner=owner, word=number)
            order.append(f"{owner}{number}")

        await asyncio.gather(*(one("a", number) for number in range(5)), one("b", 0), one("b", 1), one("c", 0))
        assert order == ["a0", "a1", "b0", "c0", "a2", "b1", "a3", "a4"]
        assert (aside.waiting, aside.is_busy) == (0, False)
        aside.close()

    asyncio.run(run())


def test_who_leaves_the_line_costs_nobody_a_turn() -> None:
    async def run() -> None:
        line = Line()
        await line.acquire("a")
        first, second, third = (asyncio.ensure_future(line.acquire(owner)) for owner in ("a", "b", "a"))
        await asyncio.sleep(0)
        assert (line.waiting, line.waiting_of("a")) == (3, 2)
        first.cancel()
        await asyncio.sleep(0)
        assert (line.waiting, line.waiting_of("a")) == (2, 1)
        # Its turn comes, and it leaves, in one moment.
        line.release()
        (second if line.waiting_of("b") == 0 else third).cancel()
        await asyncio.wait_for(asyncio.wait([first, second, third]), 60)
        assert sorted(one.cancelled() for one in (first, second, third)) == [False, True, True]
        line.release()
        assert (line.is_taken, line.waiting) == (False, 0)

    asyncio.run(run())


@pytest.mark.system
@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="processes cannot be held on a core here")
def test_a_figure_is_the_same_on_a_busy_machine(limits: Limits) -> None:
    """39 runs at the greatest scale: it was a 503 where the clock was looked at."""
    steps = np.arange(1, 1001)
    series = {f"exp_{run}": {"train/loss": (steps, np.cos(steps * (run + 1.0)))} for run in range(39)}
    specs = {one: {"train": {"seed": run % 3}, "arm": run // 3} for run, one in enumerate(series)}
    experiments, blobs = packed(specs, series, {})
    options = {"keys": ["train/loss"], "traces": True, "width": 800}
    look = {"format": "png", "scale": 4.0, "affordable_seconds": 8.0, "options": options}
    work = Work({"name": "curves", "experiments": experiments, **look}, blobs)

    async def prepare() -> Work:
        return work

    async def run() -> None:
        aside = Aside(replace(limits, cpu_seconds=10.0, memory_bytes=4 * MEMORY))
        request = Request({"type": "http"}, _stays)
        alone = await aside.run(request, "own_test", "bncore.figures.asked:figure", prepare)
        assert alone.startswith(b"\x89PNG")
        assert aside.pid is not None
        first = aside.pid
        with busy(first, 3):
            assert await aside.run(request, "own_test", "bncore.figures.asked:figure", prepare) == alone
        assert aside.pid == first
        aside.close()

    asyncio.run(run())
