"""Searches over HTTP: from a request to the trials that are proposed first."""

import json
import math
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from bncore.searching.proposing import propose
from bncore.spec import load_spec, plan
from bncore.spec.sweep import load_sweep
from client.cli import app
from store.sweeps import searching

RATE = {"kind": "float", "low": 1e-4, "high": 1.0, "scale": "log"}
ZERO = {**RATE, "low": 0.0}
SEARCH: dict[str, Any] = {"space": {"optimizer.lr": RATE}, "objective": "test/accuracy", "trials": 8, "at_once": 2}
SWEEP: dict[str, Any] = {"template": {"train": {"steps": 10}}, "search": SEARCH, "seeds": 2}
HELD_OUT = {"template": {"data": {"kind": "digits", "validation": {"count": 100}}, "train": {"steps": 10}}}


def test_a_search_begins_with_what_is_proposed_before_anything_is_known(api: Any) -> None:
    answer = api.client.post("/v1/sweeps", json=SWEEP, headers={"Idempotency-Key": '"s"'})
    assert answer.status_code == 202, answer.text
    made = answer.json()
    again = api.client.post("/v1/sweeps", json=SWEEP, headers={"Idempotency-Key": '"s"'})
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (made["id"], "true")
    assert (made["axes"], made["points"], made["experiments"], made["state"]) == (["optimizer.lr"], 2, 4, "queued")
    assert made["search"] == {
        "state": "open", "note": None, "objective": "test/accuracy", "direction": "maximize", "on_test_data": True,
        "trials": 8, "submitted": 2,
    }  # fmt: skip
    # Two of eight trials, two seeds each, ten steps.
    assert made["progress"]["total_steps"] == 8 * 2 * 10
    rows = api.client.get(f"/v1/sweeps/{made['id']}/experiments").json()["data"]
    proposed = json.loads(propose(searching.first(load_sweep(SWEEP))))["proposals"]
    assert [(row["point"], row["seed"], row["values"]) for row in rows] == [
        (trial, seed, proposed[trial]["values"]) for trial in range(2) for seed in range(2)
    ]
    assert all(1e-4 <= row["values"]["optimizer.lr"] <= 1.0 for row in rows)
    refused = api.client.post(f"/v1/sweeps/{made['id']}/extend", json={"seeds": 1})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/seeds")
    cancelled = api.client.post(f"/v1/sweeps/{made['id']}/cancel").json()
    assert (cancelled["state"], cancelled["search"]["state"]) == ("cancelled", "stopped")


def test_a_search_is_tried_out(shared_api: Any) -> None:
    found = shared_api.client.post("/v1/sweeps:validate", json={**SWEEP, "seeds": 3}).json()
    assert (found["points"], found["experiments"], found["total_steps"]) == (8, 24, 240)
    assert found["least_steps"] == found["total_steps"]


COSTLY: dict[str, Any] = {
    "template": {"network": {"kind": "mlp", "hidden": [10]}, "train": {"epochs": 3, "batch_size": 50}},
    "arms": {"long": {"train.epochs": 9}, "short": {}},
    "search": {
        **SEARCH,
        "space": {
            "optimizer.lr": RATE,
            "train.batch_size": {"kind": "integer", "low": 10, "high": 100},
            "network.hidden": [[5], [20, 20], [7]],
        },
    },
    "seeds": 3,
}


def test_a_search_costs_between_its_cheapest_and_its_dearest_end(shared_api: Any) -> None:
    found = shared_api.client.post("/v1/sweeps:validate", json=COSTLY).json()
    examples = plan(load_spec(COSTLY["template"])).train_examples
    # Of an arm; together they have 9 and 3 epochs.
    epochs, made = 9 + 3, SEARCH["trials"] * 3
    assert (found["points"], found["experiments"]) == (2 * SEARCH["trials"], 2 * made)
    batches = {size: math.ceil(examples / size) for size in (10, 100)}
    assert (found["least_steps"], found["total_steps"]) == (made * epochs * batches[100], made * epochs * batches[10])
    read = sorted(size * count for size, count in batches.items())
    assert (found["least_examples"], found["examples"]) == tuple(made * epochs * one for one in read)
    assert found["least_parameters"] == plan(load_spec(changed([5]))).parameters
    assert found["most_parameters"] == plan(load_spec(changed([20, 20]))).parameters
    search = found["search"]
    assert (search["trials"], search["objective"], search["direction"]) == (8, "test/accuracy", "maximize")
    assert (search["cheapest"]["arm"], search["cheapest"]["values"]["network.hidden"]) == ("short", [5])
    assert (search["dearest"]["arm"], search["dearest"]["values"]["network.hidden"]) == ("long", [20, 20])
    dear, cheap = (search[name]["values"]["train.batch_size"] for name in ("dearest", "cheapest"))
    assert [batches[dear] * dear, batches[cheap] * cheap] == read[::-1]
    assert (found["first"], found["last"]) == (search["cheapest"], search["dearest"])


def changed(hidden: list[int]) -> dict[str, Any]:
    return {**COSTLY["template"], "network": {"kind": "mlp", "hidden": hidden}}


def test_what_a_search_will_do_is_said_on_the_command_line(shared_api: Any, tmp_path: Any) -> None:
    (tmp_path / "s.json").write_text(json.dumps(COSTLY))
    environment = {"BNLAB_URL": str(shared_api.client.base_url), "BNLAB_API_KEY": shared_api.key, "COLUMNS": "200"}
    done = CliRunner().invoke(app, ["sweep", "validate", str(tmp_path / "s.json")], env=environment)
    said = " ".join(done.stdout.split())
    assert done.exit_code == 0, done.output
    assert "trials at most 8 of each of 2 arms, 2 at a time" in said
    assert "experiments at most 48" in said
    assert "space optimizer.lr from 0.0001 to 1.0 (log); train.batch_size from 10 to 100; network.hidden in" in said
    found = shared_api.client.post("/v1/sweeps:validate", json=COSTLY).json()
    assert f"steps in all {found['least_steps']:,} to {found['total_steps']:,}" in said
    assert "cheapest" in said
    assert "first" not in said


def test_ends_that_no_trial_can_have_together_are_no_end(shared_api: Any) -> None:
    """The smallest batch is the cheapest, and cannot be cut into the eight parts that are named first."""
    space = {"train.batch_size": [4, 64], "train.accumulate": [8, 1]}
    search = {**SEARCH, "space": space, "trials": 3}
    asked = {"template": {"train": {"steps": 10}}, "search": search}
    found = shared_api.client.post("/v1/sweeps:validate", json=asked).json()
    assert (found["least_examples"], found["examples"]) == (3 * 10 * 4, 3 * 10 * 64)


@pytest.mark.parametrize(
    ("said", "pointer", "text"),
    [
        ({"search": {**SEARCH, "objective": "validation/accuracy"}}, "/search/objective", "held out"),
        ({"search": {**SEARCH, "objective": "test/acuracy"}}, "/search/objective", "did you mean test/accuracy?"),
        ({"search": {**SEARCH, "space": {"optimizer.rate": RATE}}}, "/search/space/optimizer.rate", "optimizer.lr"),
        ({"search": {**SEARCH, "space": {"optimizer.lr": ZERO}}}, "/search/space/optimizer.lr/low", "log"),
        ({"search": {**SEARCH, "space": {"optimizer.lr": [0.1, 0.2]}}}, "/search/trials", "2 different"),
        ({"search": {**SEARCH, "space": {"network.norm.kind": ["batch_norm", "bn"]}, "trials": 2}},
         "/search/space/network.norm.kind/1", "bn"),
        ({"search": {**SEARCH, "space": {"train.seed": [1, 2]}, "trials": 2}}, "/search/space/train.seed", "seeds"),
        ({"axes": {"train.batch_size": [10, 20]}}, "/axes", "leave axes out"),
        ({"search": {**SEARCH, "sampler": {"kind": "cmaes"}}}, "/search/sampler/kind", "tpe"),
        ({"search": {**SEARCH, "trials": 9000}}, "/search/trials", "10,000"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(shared_api: Any, said: Any, pointer: str, text: str) -> None:
    for path in ("/v1/sweeps", "/v1/sweeps:validate"):
        answer = shared_api.client.post(path, json={**SWEEP, **said})
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer
        assert text in answer.json()["errors"][0]["detail"]


def test_validation_can_be_searched_where_there_is_some(shared_api: Any) -> None:
    search = {**SEARCH, "objective": "validation/loss"}
    answer = shared_api.client.post("/v1/sweeps", json={**SWEEP, **HELD_OUT, "search": search})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["search"]["direction"], answer.json()["search"]["on_test_data"]) == ("minimize", False)
    shared_api.client.post(f"/v1/sweeps/{answer.json()['id']}/cancel")


def test_a_search_comes_closer_than_its_first_trials() -> None:
    """A bowl in the logarithm of the rate; of 30 trials the first ten are drawn."""
    spec = load_sweep({**SWEEP, "search": {**SEARCH, "trials": 30, "objective": "test/loss"}})
    (arm,) = searching.first(spec)["arms"]
    trials: list[Any] = []
    while len(trials) < 30:
        asked = {
            "search": searching.first(spec)["search"],
            "arms": [{**arm, "trials": trials, "until": len(trials) + 2}],
        }
        for one in json.loads(propose(asked))["proposals"]:
            loss = (math.log10(one["values"]["optimizer.lr"]) + 2.0) ** 2
            trials.append({"values": one["values"], "outcome": "measured", "value": loss})
    assert min(one["value"] for one in trials[10:]) < min(one["value"] for one in trials[:10])


def test_the_server_itself_does_not_import_optuna() -> None:
    import subprocess

    code = "import sys, api.app, worker.relay_process, bncore.searching.proposing; print('optuna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
