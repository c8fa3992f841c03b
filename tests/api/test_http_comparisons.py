"""Experiments side by side, over HTTP and from the command line: sixty in one request, and nobody else's."""

import csv
import io
import math
import random
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, insert, update
from typer.testing import CliRunner

from bncore.spec import load_spec
from client import Client, ClientError
from client.cli import app
from store import experiments
from store.columns import core
from store.experiments import Submission
from store.jobs.states import State
from store.tables import Experiment, Job, MetricSeries
from tests.api.holders import holder

NORMS = ("none", "batch_norm", "layer_norm")
RATES = (0.1, 0.2, 0.4, 0.8)
SEEDS = 5


@pytest.fixture
def finished(api: Any) -> dict[str, tuple[str, float, int, float]]:
    """Sixty experiments that have ended, with a number each: id to norm, rate, seed, accuracy."""
    arms = [(norm, rate, seed) for norm in NORMS for rate in RATES for seed in range(SEEDS)]
    specs = [
        load_spec(
            {
                "network": {"kind": "mlp", "norm": {"kind": norm}}, "optimizer": {"kind": "sgd", "lr": rate},
                "train": {"steps": 400, "seed": seed}, "tags": {"q": "a"}, "name": f"{norm}-{rate}-{seed}",
            }
        )
        for norm, rate, seed in arms
    ]  # fmt: skip
    with api.database.write() as session:
        owner = experiments.get(session, api.submit()).owner
        rows = experiments.submit_many(session, [Submission.of(spec) for spec in specs], owner=owner, device="cpu")
        found = dict(zip([row.id for row in rows], arms, strict=True))
        draw = random.Random(1)
        values = {one: draw.random() for one in found}
        # What sixty workers would have written, in one transaction.
        for one, value in values.items():
            session.execute(update(core(Job)).where(core(Job).c.id == one).values(state=State.SUCCEEDED))
            best = {"metric": "test/accuracy", "value": value}
            facts = {"stop_reason": "budget", "summary": {"steps": 400, "best": best}}
            session.execute(update(core(Experiment)).where(core(Experiment).c.id == one).values(**facts))
        series = [
            {"experiment_id": one, "key": key, "count": 2, "first_step": 200, "last_step": 400, "nonfinite": 0}
            | {"first": first, "last": last, "minimum": min(first, last), "maximum": max(first, last)}
            for one, value in values.items()
            for key, first, last in (("test/accuracy", value / 2, value), ("train/loss", 2.0, 1.0))
        ]
        session.execute(insert(core(MetricSeries)), series)
    return {one: (*arm, values[one]) for one, arm in found.items()}


def by_hand_numbers(finished: dict[str, Any], norm: str, rate: float) -> tuple[float, float]:
    values = [value for one, at, _, value in finished.values() if (one, at) == (norm, rate)]
    assert len(values) == SEEDS
    mean = sum(values) / SEEDS
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (SEEDS - 1))


def test_sixty_runs_are_one_request_of_two_statements_with_the_numbers_of_a_computation_by_hand(
    api: Any, finished: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with heard(api) as statements:
        answer = api.client.post("/v1/comparisons", json={"tags": ["q:a"]})
    assert answer.status_code == 200, answer.text
    asked = [statement for statement in statements if "experiment" in statement or "metric" in statement]
    assert len(asked) == 3, asked
    assert not any("metric_segments" in statement for statement in asked)
    found = answer.json()
    assert {*found["paths"]} - {*found["following"]} == {"network.norm.kind", "optimizer.lr"}
    assert found["measures"] == ["test/accuracy", "best"]
    assert len(found["groups"]) == len(NORMS) * len(RATES)
    means = [group["measures"]["test/accuracy"]["mean"] for group in found["groups"]]
    assert means == sorted(means, reverse=True)
    for group in found["groups"]:
        cell = group["measures"]["test/accuracy"]
        mean, sd = by_hand_numbers(finished, group["where"]["network.norm.kind"], group["where"]["optimizer.lr"])
        assert (cell["n"], group["n"]) == (SEEDS, SEEDS)
        assert cell["mean"] == pytest.approx(mean, rel=1e-14)
        assert cell["sd"] == pytest.approx(sd, rel=1e-12)
    shown(api, finished, monkeypatch)


def shown(api: Any, finished: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same from the command line and from Python."""
    monkeypatch.setenv("BNLAB_API_KEY", api.key)
    monkeypatch.setenv("BNLAB_URL", api.url)
    monkeypatch.setenv("COLUMNS", "200")
    run = CliRunner().invoke(app, ["compare", "--tag", "q=a", "--sort", "optimizer.lr"])
    assert run.exit_code == 0, run.stderr
    head, *lines = run.stdout.splitlines()
    assert head.split()[:3] == ["network.norm.kind", "optimizer.lr", "test/accuracy"]
    assert len(lines) == 12
    assert [float(line.split()[1]) for line in lines] == sorted(RATES * 3)
    mean, sd = by_hand_numbers(finished, "none", 0.1)
    assert any(f"{mean:.4g} ± {sd:.2g}" in line for line in lines if line.split()[:2] == ["none", "0.1"])
    two = [one for one, arm in finished.items() if arm[:3] in (("none", 0.1, 0), ("none", 0.1, 1))]
    run = CliRunner().invoke(app, ["compare", *two, "-m", "train/loss:max", "--csv"])
    (row,) = csv.DictReader(io.StringIO(run.stdout))
    assert (row["train/loss:max mean"], row["train/loss:max sd"], row["n"]) == ("2.0", "0.0", "2")
    run = CliRunner().invoke(app, ["compare", *two, "-m", "test/acuracy", "--json"])
    assert run.exit_code == 3
    assert "/measures/0: No run that is compared has test/acuracy; there are best, steps_to_target, sec" in run.stderr
    # Neither is needed by this package: a stand-in for a module shows what it is given.
    monkeypatch.setitem(sys.modules, "polars", types.SimpleNamespace(DataFrame=dict))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with Client() as client:
        frame = client.frame(tags="q:a", measures="test/accuracy")
        for library, said in (("numpy", "pandas or polars"), ("pandas", "pip install pandas")):
            with pytest.raises(ClientError, match=said):
                client.frame(two, library=library)
    columns = ("id", "network.norm.kind", "optimizer.lr", "seed", "test/accuracy")
    rows = zip(*(frame[name] for name in columns), strict=True)
    assert {one: tuple(rest) for one, *rest in rows} == finished


def test_what_cannot_be_compared_is_refused_with_its_cure_and_others_see_nothing(api: Any) -> None:
    one = api.submit(tags={"q": "a"})
    assert api.client.post("/v1/comparisons", json={"experiments": [one]}).json()["groups"][0]["unfinished"] == {
        "queued": 1
    }
    for body, pointer in (
        ({}, "/experiments"),
        ({"experiments": [one], "name": "x"}, "/experiments"),
        ({"experiments": ["exp_1"]}, "/experiments/0"),
        ({"experiments": [one], "sort": "lr"}, "/sort"),
        ({"experiments": [one], "measures": ["test/accuracy"]}, "/measures/0"),
        ({"tag": ["q"]}, "/tag"),
    ):
        refused = api.client.post("/v1/comparisons", json=body)
        assert (refused.status_code, [fault["pointer"] for fault in refused.json()["errors"]]) == (422, [pointer]), body
    with holder(api, "other", "read") as other:
        assert other.post("/v1/comparisons", json={"experiments": [one]}).status_code == 404
        assert other.post("/v1/comparisons", json={"tags": ["q"]}).json()["groups"] == []


@contextmanager
def heard(api: Any) -> Iterator[list[str]]:
    """The statements that the service reads by meanwhile."""
    engine, said = api.server.config.app.state.service.database.reading_engine, []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(engine, "before_cursor_execute", hear)
    yield said
    event.remove(engine, "before_cursor_execute", hear)
