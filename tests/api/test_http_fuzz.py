"""Bodies that nobody would write: each is answered as the description says, by the thousand."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from api.openapi import SPEC_EXAMPLES

NASTY: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, -1e308, 2**63, 10**400, float("nan"), float("inf"), "", "a", "\x00", "\ud800",
    "𐀀" * 300, "a" * 5000, "kind", [], {}, [[]], [{}], {"kind": None}, {"kind": "mlp"}, {"kind": []}, {"": ""},
    [1] * 300, {str(number): number for number in range(300)}, {"kind": "linear", "start": 1, "end": 2, "end_step": 0},
]  # fmt: skip


def bodies(count: int, seed: int) -> Iterator[bytes]:
    """Examples with a few parts replaced, repeated or lost, then sometimes with a few bytes so."""
    chance = random.Random(seed)
    examples = [json.dumps(example["value"]) for example in SPEC_EXAMPLES.values()]
    for _ in range(count):
        document = json.loads(chance.choice(examples))
        for _ in range(chance.randint(0, 3)):
            document = _changed(document, chance)
        body = bytearray(json.dumps(document).encode("utf-8", "surrogatepass"))
        if chance.random() < 0.3:
            for _ in range(chance.randint(1, 5)):
                at = chance.randint(0, len(body))
                body[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        yield bytes(body)


def _changed(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.3 or not isinstance(value, dict | list) or not value:
        return chance.choice(NASTY)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [*value[:at], _changed(value[at], chance), *value[at:]]
    name = chance.choice(list(value))
    if chance.random() < 0.1:
        return {**value, chance.choice(["x", "kind", "norm", "lr", "\x7f"]): chance.choice(NASTY)}
    return {**value, name: _changed(value[name], chance)}


def _holds(api: Any, count: int, seed: int) -> None:
    declared = {
        path: set(api.server.config.app.openapi()["paths"][path]["post"]["responses"])
        for path in ("/v1/experiments:validate", "/v1/experiments")
    }
    seen = set()
    for number, body in enumerate(bodies(count, seed)):
        path = "/v1/experiments" if number % 10 == 0 else "/v1/experiments:validate"
        answer = api.client.post(path, content=body, headers={"Content-Type": "application/json"})
        status = str(answer.status_code)
        assert status in declared[path], body
        assert not status.startswith("5"), body
        assert answer.is_success or answer.headers["content-type"] == "application/problem+json"
        seen.add(status)
    assert "422" in seen
    assert seen & {"200", "202"}


def test_no_body_is_answered_otherwise_than_described(shared_api: Any) -> None:
    _holds(shared_api, 200, seed=1)


@pytest.mark.slow
def test_no_body_of_ten_thousand_is_answered_otherwise_than_described(shared_api: Any) -> None:
    _holds(shared_api, 10_000, seed=2)
