"""Sweeps over HTTP: from a request to a table."""

import csv
import io
import json
import math
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from client.cli import app
from store import work
from tests.api.conftest import ByHand
from tests.api.holders import holder

SWEEP: dict[str, Any] = {
    "name": "rates",
    "template": {"train": {"steps": 10, "target": {"test_accuracy": 0.99}}},
    "axes": {"optimizer.lr": [0.1, 0.2]},
    "arms": {"bn": {}, "none": {"network.norm.kind": "none"}},
    "seeds": 3,
}
SWAPPED = {"kind": "grid", "low": 2, "high": 1, "count": 2}


def submit(api: Any, headers: Any = None, **said: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/sweeps", json={**SWEEP, **said}, headers=headers or {})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def ask(api: Any, sweep: dict[str, Any], action: str, **options: Any) -> Any:
    return api.client.post(f"/v1/sweeps/{sweep['id']}/{action}", **options)


def get(api: Any, sweep: dict[str, Any], part: str = "", **options: Any) -> Any:
    return api.client.get(f"/v1/sweeps/{sweep['id']}{part}", **options)


def test_a_sweep_is_accepted_listed_and_looked_at(api: Any) -> None:
    sweep = submit(api)
    assert (sweep["name"], sweep["state"], sweep["points"], sweep["experiments"]) == ("rates", "queued", 4, 12)
    assert (sweep["axes"], sweep["arms"], sweep["seeds"]) == (["optimizer.lr"], ["bn", "none"], [0, 1, 2])
    assert (sweep["states"], sweep["progress"]["total_steps"]) == ({"queued": 12}, 120)
    assert sweep["spec"]["axes"] == SWEEP["axes"]
    assert [one["id"] for one in api.client.get("/v1/sweeps").json()["data"]] == [sweep["id"]]
    found: list[Any] = []
    cursor = None
    while True:
        page = get(api, sweep, "/experiments", params={"limit": 5, **({"cursor": cursor} if cursor else {})}).json()
        found, cursor = found + page["data"], page["next_cursor"]
        if not page["has_more"]:
            break
    assert [(one["seed"], one["values"]["optimizer.lr"], one["arm"]) for one in found] == [
        (seed, lr, arm) for seed in range(3) for lr in (0.1, 0.2) for arm in ("bn", "none")
    ]
    alone = api.client.get(f"/v1/experiments/{found[-1]['experiment']['id']}").json()
    assert (alone["spec"]["train"]["seed"], alone["spec"]["network"]["norm"]["kind"]) == (2, "none")


def test_an_etag_stands_for_all_of_the_experiments(api: Any) -> None:
    sweep = submit(api)
    tag = get(api, sweep).headers["etag"]
    assert get(api, sweep, headers={"If-None-Match": tag}).status_code == 304
    hand = ByHand(api.database)
    assert get(api, sweep, headers={"If-None-Match": tag}).json()["state"] == "running"
    hand.start()
    assert ask(api, sweep, "cancel").status_code == 202
    assert get(api, sweep).json()["states"] == {"running": 1, "cancelled": 11}


def test_who_waits_for_a_sweep_is_answered_once_all_of_it_has_ended(api: Any) -> None:
    sweep = submit(api, seeds=1, axes={})
    with ThreadPoolExecutor(1) as others:
        waited = others.submit(get, api, sweep, params={"wait": 60}, timeout=120)
        for _ in range(2):
            assert not waited.done()
            hand = ByHand(api.database)
            hand.start()
            hand.finish(succeeded("budget", {}))
        assert waited.result().json()["state"] == "succeeded"
    tag = get(api, sweep).headers["etag"]
    assert get(api, sweep, params={"wait": 30}, headers={"If-None-Match": tag}).status_code == 304


def test_a_sweep_is_tried_out_without_a_row(shared_api: Any) -> None:
    rows = len(shared_api.client.get("/v1/sweeps").json()["data"])
    axes = {"optimizer.lr": [0.1, 50.0], "network.hidden": [[8], [16, 16]], "train.batch_size": [10, 20]}
    answer = shared_api.client.post("/v1/sweeps:validate", json={**SWEEP, "axes": axes, "seeds": [3, 5]})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["points"], found["seeds"], found["experiments"]) == (16, [3, 5], 32)
    assert (found["total_steps"], found["examples"]) == (320, 8 * 2 * 10 * (10 + 20))
    # Digits have 64 numbers and 10 classes; a batch norm has two parameters a unit, and takes the biases' place.
    assert found["least_parameters"] == (64 + 1) * 8 + (8 + 1) * 10
    first, last = found["first"], found["last"]
    assert (first["values"]["optimizer.lr"], first["arm"], first["seed"]) == (0.1, "bn", 3)
    assert (last["values"]["optimizer.lr"], last["arm"], last["seed"]) == (50.0, "none", 5)
    assert last["spec"]["network"]["norm"]["kind"] == "none"
    (said,) = [one for one in found["warnings"] if one["code"] == "cold_statistics"]
    assert (said["points"], said["arm"]) == (8, "bn")
    assert len(shared_api.client.get("/v1/sweeps").json()["data"]) == rows
    refused = shared_api.client.post("/v1/sweeps:validate", json={**SWEEP, "arms": {"a": {}, "b": {}}})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/arms/b")


def test_what_may_not_be_meant_is_said_when_it_is_accepted_and_again_to_a_repeat(api: Any) -> None:
    found = api.client.post("/v1/sweeps:validate", json=SWEEP).json()["warnings"]
    assert "cold_statistics" in {one["code"] for one in found}
    key = {"Idempotency-Key": "cold"}
    made = submit(api, key)
    # One of each kind, with the first of the points that it is of; seeds do not count.
    assert made["warnings"] == found
    assert submit(api, key) == made
    assert "warnings" not in get(api, made).json()


def test_what_is_asked_of_all_of_them(api: Any) -> None:
    sweep = submit(api)
    assert ask(api, sweep, "pause").json()["state"] == "paused"
    assert ask(api, sweep, "resume").json()["state"] == "queued"
    assert api.client.delete(f"/v1/sweeps/{sweep['id']}").status_code == 409
    cancelled = ask(api, sweep, "cancel")
    assert (cancelled.status_code, cancelled.json()["states"]) == (200, {"cancelled": 12})
    assert ask(api, sweep, "retry").json()["states"] == {"cancelled": 12}
    assert ask(api, sweep, "retry", params={"cancelled": "true"}).json()["states"] == {"queued": 12}
    ask(api, sweep, "cancel")
    assert api.client.delete(f"/v1/sweeps/{sweep['id']}").status_code == 204
    assert get(api, sweep).status_code == 404
    assert api.client.get("/v1/experiments").json()["data"] == []


def test_it_is_extended_by_seeds_once_for_each_key(api: Any) -> None:
    sweep = submit(api)
    key = {"Idempotency-Key": '"more"'}
    first = ask(api, sweep, "extend", json={"seeds": 2}, headers=key)
    assert (first.status_code, first.json()["seeds"], first.json()["experiments"]) == (202, [0, 1, 2, 3, 4], 20)
    again = ask(api, sweep, "extend", json={"seeds": 2}, headers=key)
    assert (again.headers["idempotency-replayed"], again.json()["experiments"]) == ("true", 20)
    refused = ask(api, sweep, "extend", json={"seeds": [7, 4]})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/seeds/1")


def test_a_repeated_submission_makes_nothing_new(api: Any) -> None:
    key = {"Idempotency-Key": '"once"'}
    sweep = submit(api, key)
    again = api.client.post("/v1/sweeps", json=SWEEP, headers=key)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (sweep["id"], "true")
    other = api.client.post("/v1/sweeps", json={**SWEEP, "seeds": 4}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    assert len(api.client.get("/v1/sweeps").json()["data"]) == 1


@pytest.mark.parametrize(
    ("said", "pointer", "text"),
    [
        ({"axes": {"optimizer.rate": [1]}}, "/axes/optimizer.rate", "Is no path of the arm bn"),
        ({"axes": {"optimizer.lr": SWAPPED}}, "/axes/optimizer.lr/high", "swap them"),
        ({"axes": {"optimizer.lr": [0.1, -1]}}, "/axes/optimizer.lr/1", "optimizer.lr = -1"),
        ({"arms": {"a": {}, "b": {}}}, "/arms/b", "Differs in nothing"),
        ({"seeds": 20_000}, "/seeds", "less than or equal to 10000"),
        ({"template": {"data": {"kind": "dataset", "id": "dat_" + "0" * 32}}}, "/template/data/id", "no such data set"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_pointer_and_cure(shared_api: Any, said: Any, pointer: str, text: str) -> None:
    answer = shared_api.client.post("/v1/sweeps", json={**SWEEP, **said})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert text in answer.json()["errors"][0]["detail"]


def test_a_sweep_of_others_is_not_there(api: Any) -> None:
    sweep = submit(api)
    with holder(api, "somebody") as other:
        assert other.get("/v1/sweeps").json()["data"] == []
        assert other.get(f"/v1/sweeps/{sweep['id']}").status_code == 404
        assert other.get(f"/v1/sweeps/{sweep['id']}/experiments").status_code == 404
        assert other.get(f"/v1/sweeps/{sweep['id']}/results").status_code == 404
        assert other.post(f"/v1/sweeps/{sweep['id']}/cancel").status_code == 404
        assert other.post(f"/v1/sweeps/{sweep['id']}/extend", json={"seeds": 1}).status_code == 404
        assert other.delete(f"/v1/sweeps/{sweep['id']}").status_code == 404


def test_results_are_means_over_seeds_with_what_is_in_none_counted(api: Any) -> None:
    sweep = submit(api)
    for number in range(11):
        hand = ByHand(api.database)
        hand.start()
        hand.metrics(1, test__loss=[5.0, float(number)], test__accuracy=[0.1, number / 20])
        summary = {"steps": 10, "seconds": 1.0, "steps_to_target": number if number < 4 else None}
        summary |= {"best": {"metric": "test/accuracy", "value": 0.5 + number / 100}}
        hand.finish(succeeded("diverged" if number == 4 else "budget", summary))
    found = get(api, sweep, "/results", params={"measures": ["test/loss", "best", "steps_to_target"]}).json()
    assert [(one["values"], one["arm"]) for one in found["points"]] == [
        ({"optimizer.lr": lr}, arm) for lr in (0.1, 0.2) for arm in ("bn", "none")
    ]
    first, second, last = found["points"][0], found["points"][1], found["points"][3]
    # Of the first point, seeds 0, 1, 2 were numbers 0, 4, 8, and 4 diverged.
    assert (first["n"], first["diverged"], first["censored"]) == (3, 1, 2)
    cell = first["measures"]["test/loss"]
    assert (cell["mean"], cell["n"], cell["diverged"]) == (4.0, 2, 1)
    assert cell["sd"] == pytest.approx(statistics.stdev([0.0, 8.0]))
    assert second["measures"]["best"]["mean"] == pytest.approx(statistics.fmean([0.51, 0.55, 0.59]))
    assert second["measures"]["steps_to_target"]["by_seed"] == {"0": 1.0}
    assert second["measures"]["steps_to_target"]["not_reached"] == 2
    assert (last["n"], last["unfinished"]) == (2, {"queued": 1})

    table = get(api, sweep, "/results", params={"format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [(row["point"], row["optimizer.lr"], row["arm"]) for row in rows][:2] == [
        ("0", "0.1", "bn"),
        ("1", "0.1", "none"),
    ]
    assert float(rows[1]["test/accuracy mean"]) == pytest.approx(statistics.fmean([1 / 20, 5 / 20, 9 / 20]))
    assert [row["censored"] for row in rows] == ["2", "2", "2", "1"]

    with_intervals = {"measures": "test/loss", "confidence": 0.95}
    known = get(api, sweep, "/results", params=with_intervals).json()["points"]
    # t of 0.975 with 2 degrees of freedom, from a table; of the second point, seeds 0, 1, 2 were numbers 1, 5, 9.
    reach = 4.302653 * statistics.stdev([1.0, 5.0, 9.0]) / math.sqrt(3)
    assert known[1]["measures"]["test/loss"]["interval"] == pytest.approx([5.0 - reach, 5.0 + reach], rel=1e-6)
    parquet = get(api, sweep, "/results", params={**with_intervals, "format": "parquet"})
    assert parquet.status_code == 200, parquet.text
    read = pyarrow.parquet.read_table(io.BytesIO(parquet.content)).to_pydict()
    assert (read["optimizer.lr"], read["arm"]) == ([0.1, 0.1, 0.2, 0.2], ["bn", "none"] * 2)
    assert read["test/loss low"][1] == pytest.approx(5.0 - reach, rel=1e-6)

    refused = get(api, sweep, "/results", params={"measures": "test/los"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/query/measures")
    assert "test/loss" in refused.json()["errors"][0]["detail"]


def test_results_before_anything_has_ended_are_a_table_without_numbers(api: Any) -> None:
    found = get(api, submit(api), "/results", params={"measures": "test/loss"}).json()
    assert len(found["points"]) == 4
    assert found["points"][0]["measures"]["test/loss"]["mean"] is None


def test_the_command_line_asks_the_same(sqlite_api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("URL", sqlite_api.url), ("API_KEY", sqlite_api.key)):
        monkeypatch.setenv(f"BNLAB_{name}", value)
    # As narrow as terminals are.
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(SWEEP))

    def bnlab(*arguments: str, code: int = 0) -> str:
        ran = CliRunner().invoke(app, ["sweep", *arguments])
        assert ran.exit_code == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    assert "of 4 points" in bnlab("validate", str(file), "--set", "seeds=2")
    assert json.loads(bnlab("validate", str(file), "--set", "seeds=2", "--json"))["experiments"] == 8
    told = bnlab("submit", str(file), "--set", "seeds=2")
    assert "Warning: /network/norm/momentum: At the end" in told
    assert "(at optimizer.lr = 0.1, arm = bn), 2 of 4 points" in " ".join(told.split())
    bnlab("cancel", "last", "--yes")
    bnlab("delete", "last", "--yes")
    made = json.loads(bnlab("submit", str(file), "--set", "seeds=2", "--json"))
    assert made["experiments"] == 8
    assert bnlab("show", "rates").split()[:4] == [made["id"], "queued", "8", "queued"]
    assert json.loads(bnlab("pause", made["id"][:20], "--json"))["states"] == {"paused": 8}
    assert json.loads(bnlab("resume", "last", "--json"))["state"] == "queued"
    assert json.loads(bnlab("extend", "last", "--seed", "5", "--seed", "7", "--json"))["seeds"] == [0, 1, 5, 7]
    assert "0.1" in bnlab("results", "last")
    assert "not ended" in bnlab("wait", "last", "--timeout", "0", code=5)
    assert json.loads(bnlab("cancel", "last", "--yes", "--json"))["states"] == {"cancelled": 16}
    assert "0 %" in bnlab("list")
    assert json.loads(bnlab("retry", "last", "--cancelled", "--json"))["states"] == {"queued": 16}
    assert "not possible" in bnlab("delete", "last", "--yes", code=3).lower()
    assert "--yes" in bnlab("cancel", "last", code=2)
    bnlab("cancel", "last", "--yes")
    bnlab("delete", "last", "--yes")
    assert "no sweep is called" in bnlab("show", "rates", code=3)
    refused = bnlab("submit", str(file), "--set", "axes.optimizer={}", code=3)
    assert "/axes/optimizer" in refused
    assert "exactly one" not in bnlab("extend", "last", code=2)


def succeeded(reason: str, summary: dict[str, Any]) -> Any:
    return work.Succeeded(reason, summary)
