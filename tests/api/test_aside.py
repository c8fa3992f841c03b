"""A process beside the API: it says what comes of a function, and no function takes more with it than itself."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from api.aside.pool import Aside, Limits, Work
from api.refusals import AsideLost, AsideRefused

MEGABYTE = 1 << 20


async def _stays() -> dict[str, Any]:
    await asyncio.sleep(3600)
    return {"type": "http.disconnect"}


def ask(aside: Aside, function: str, blobs: list[bytes] | None = None, **asked: Any) -> Any:
    async def prepare() -> Work:
        return Work(asked, blobs or [])

    return aside.run(Request({"type": "http"}, _stays), "own_test", f"tests.api.aside_functions:{function}", prepare)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return Limits(seconds=20.0, wait_seconds=20.0, waiting=10, idle_seconds=60.0, memory_bytes=256 * MEGABYTE)


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


def test_what_takes_too_long_is_ended(limits: Limits) -> None:
    async def run() -> None:
        aside = Aside(replace(limits, seconds=0.5))
        with pytest.raises(AsideLost):
            await ask(aside, "slow", seconds=3600)
        assert aside.pid is None
        assert not aside.is_busy

    asyncio.run(run())
