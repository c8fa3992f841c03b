"""Pruned sweeps over HTTP and on the command line: what is asked, refused, decided and shown."""

import csv
import io
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from store import work
from tests.api.conftest import ByHand
from worker.pruning import Pruning

RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
PRUNE = {"metric": "validation/accuracy", "first_steps": 10, "factor": 2}
TEMPLATE = {
    "data": {"kind": "digits", "validation": {"share": 0.2}},
    "train": {"steps": 30},
    "evaluation": {"every_steps": 5},
}
SWEEP: dict[str, Any] = {"template": TEMPLATE, "axes": {"optimizer.lr": RATES}, "seeds": 2, "prune": PRUNE}
ARMS = {"bn": {}, "none": {"network.norm.kind": "none"}}


def bnlab(api: Any, *arguments: str) -> str:
    environment = {"BNLAB_URL": api.client.base_url.__str__().rstrip("/"), "BNLAB_API_KEY": api.key, "COLUMNS": "200"}
    done = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def test_what_pruning_would_leave_is_said_before(shared_api: Any, tmp_path: Any) -> None:
    found = shared_api.client.post("/v1/sweeps:validate", json={**SWEEP, "arms": ARMS}).json()
    rungs = [{"step": 10, "points": 6, "kept": 3}, {"step": 20, "points": 3, "kept": 1}]
    # Of each arm, for each seed: three end at 10, two at 20, one at 30.
    assert found["prune"] == {"rungs": rungs, "kept": 2, "total_steps": 2 * 2 * (3 * 10 + 2 * 20 + 30)}
    assert found["total_steps"] == 2 * 2 * 6 * 30
    together = {**SWEEP, "arms": ARMS, "prune": {**PRUNE, "within": "sweep"}}
    plan = shared_api.client.post("/v1/sweeps:validate", json=together).json()["prune"]
    assert [(one["points"], one["kept"]) for one in plan["rungs"]] == [(12, 6), (6, 3)]
    (tmp_path / "s.json").write_text(json.dumps({**SWEEP, "arms": ARMS}))
    said = bnlab(shared_api, "sweep", "validate", str(tmp_path / "s.json"))
    assert "rungs 6 to 3 at step 10, 3 to 1 at step 20" in said
    assert "steps with pruning 400 (56 %)" in said


@pytest.mark.parametrize(
    ("said", "pointer", "text"),
    [
        ({"prune": {**PRUNE, "metric": "test/accuracy"}}, "/prune/metric", "chosen by test data"),
        ({"prune": {**PRUNE, "metric": "validation/acc"}}, "/prune/metric", "validation/accuracy"),
        ({"prune": {**PRUNE, "first_steps": 12}}, "/prune/first_steps", "10 or 15"),
        ({"prune": {**PRUNE, "first_steps": 30}}, "/prune/first_steps", "30 steps"),
        ({"prune": {**PRUNE, "factor": 5}}, "/prune/factor", "4"),
        ({"axes": {"optimizer.lr": [0.1, 0.2]}, "prune": {**PRUNE, "factor": 3}}, "/prune/factor", "2 points"),
        ({"template": {"train": {"steps": 30}, "evaluation": {"every_steps": 5}}}, "/prune/metric", "data.validation"),
        ({"axes": {"train.steps": [30, 40, 50]}}, "/prune/first_steps", "train.steps"),
        ({"prune": {**PRUNE, "kind": "median"}}, "/prune/kind", "successive_halving"),
        ({"axes": {}, "search": {"space": {"optimizer.lr": [0.1, 0.2]}, "objective": "validation/loss", "trials": 2}},
         "/prune", "search"),
    ],
)  # fmt: skip
def test_what_cannot_be_pruned_is_refused(shared_api: Any, said: Any, pointer: str, text: str) -> None:
    for path in ("/v1/sweeps", "/v1/sweeps:validate"):
        answer = shared_api.client.post(path, json={**SWEEP, **said})
        assert answer.status_code == 422, answer.text
        (fault,) = (one for one in answer.json()["errors"] if one["pointer"] == pointer)
        assert text in fault["detail"]


def run(api: Any, count: int) -> None:
    """The better the higher the rate, whatever the step."""
    for _ in range(count):
        hand = ByHand(api.database)
        spec = api.client.get(f"/v1/experiments/{hand.lease.job_id}").json()["spec"]
        hand.metrics(10, validation__accuracy=[spec["optimizer"]["lr"]])
        hand.checkpoint("last", 10, b"w", b"s")
        hand.finish(work.Rested(10))


def test_a_sweep_that_is_pruned_is_shown_as_that(sqlite_api: Any) -> None:
    api, client = sqlite_api, sqlite_api.client
    answer = client.post("/v1/sweeps", json=SWEEP)
    assert answer.status_code == 202, answer.text
    made, sweep = answer.json(), f"/v1/sweeps/{answer.json()['id']}"
    assert made["prune"] == {
        "state": "open", "metric": "validation/accuracy", "higher_is_better": True, "factor": 2, "within": "arm",
        "experiments": 0,
    }  # fmt: skip
    run(api, 11)
    now = client.get(sweep).json()
    assert [(one["step"], one["points"], one["kept"], one["awaited"]) for one in now["rungs"]] == [
        (10, 6, 3, 1), (20, 3, 1, None)
    ]  # fmt: skip
    assert (now["state"], now["states"]) == ("running", {"queued": 1, "paused": 11})
    refused = client.post(f"{sweep}/extend", json={"seeds": 1})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "is_being_pruned")
    run(api, 1)
    assert client.get(sweep).json()["state"] == "running"
    before = client.get(sweep).headers["ETag"]
    assert Pruning(api.database).turn()
    after = client.get(sweep)
    assert after.headers["ETag"] != before
    assert (after.json()["prune"]["experiments"], after.json()["rungs"][0]["decided_at"] is not None) == (6, True)
    said = bnlab(api, "sweep", "show", made["id"])
    assert "open, one in 2 by the highest validation/accuracy, 6 experiments ended" in said
    assert "10 6 3 decided" in said
    assert "20 3 1 waits for 6 experiments" in said
    run_out(api, client, sweep)


def run_out(api: Any, client: Any, sweep: str) -> None:
    rows = client.get(f"{sweep}/experiments", params={"limit": 100}).json()["data"]
    gone = next(row["experiment"] for row in rows if row["point"] == 0)
    assert (gone["state"], gone["failure"]["code"]) == ("cancelled", "pruned")
    assert gone["failure"]["message"] == "Pruned at step 10: ranked 6 of 6 by validation/accuracy 0.1."
    refused = client.post(f"/v1/experiments/{gone['id']}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_transition")
    assert "clone it" in refused.json()["detail"]
    assert client.post(f"/v1/experiments/{gone['id']}/clone", json={}).status_code in (201, 202)
    attempt = client.get(f"/v1/experiments/{gone['id']}/attempts").json()["data"][0]
    assert attempt["ending"] == "rested"
    for end, count in ((20, 6), (30, 2)):
        for _ in range(count):
            finish(api, end)
        Pruning(api.database).turn()
    now = client.get(sweep).json()
    assert (now["state"], now["prune"]["state"], now["progress"]["fraction"]) == ("succeeded", "done", 1.0)
    found = client.get(f"{sweep}/results", params={"measures": "validation/accuracy"}).json()["points"]
    assert [(one["n"], one["unfinished"]) for one in found] == [(0, {})] * 5 + [(2, {})]
    assert [one["pruned"] and (one["pruned"]["step"], one["pruned"]["rank"], one["pruned"]["of"]) for one in found] == [
        (10, 6, 6), (10, 5, 6), (10, 4, 6), (20, 3, 3), (20, 2, 3), None
    ]  # fmt: skip
    table = client.get(f"{sweep}/results", params={"measures": "validation/accuracy", "format": "csv"}).text
    assert [row["pruned"] for row in csv.DictReader(io.StringIO(table))] == ["10", "10", "10", "20", "20", ""]
    drawn = client.get(f"{sweep}/figures/sensitivity.json", params={"measure": "validation/accuracy"}).json()
    assert "▼ ended early, behind other points" in drawn["description"]
    assert "triangle-down" in json.dumps(drawn)
    # More seeds are of what is left.
    grown = client.post(f"{sweep}/extend", json={"seeds": 1})
    assert (grown.status_code, grown.json()["experiments"], grown.json()["seeds"]) == (202, 13, [0, 1, 2])
    assert ByHand(api.database).lease


def finish(api: Any, end: int) -> None:
    """Of the sweep, not of the clone."""
    with_rest = {20: work.Rested(20), 30: work.Succeeded("budget", {"steps": 30})}
    while True:
        hand = ByHand(api.database)
        experiment = api.client.get(f"/v1/experiments/{hand.lease.job_id}").json()
        if experiment["retry_of"] is None:
            break
        hand.finish()
    hand.metrics(end, validation__accuracy=[experiment["spec"]["optimizer"]["lr"]])
    hand.checkpoint("last", end, b"w", b"s")
    hand.finish(with_rest[end])
