"""Sweeps and studies of several owners: what is another's is as if it were not there; a full queue takes whole ones."""

from pathlib import Path
from typing import Any

import pytest

from store.tables import Experiment, Job, Study, Sweep, SweepExperiment
from tests.api.datasets import imported
from tests.api.holders import holder
from tests.api.test_http_evaluations import trained
from tests.store.test_races import at_once

SMALL: dict[str, Any] = {
    "network": {"kind": "mlp", "hidden": [4]},
    "train": {"steps": 5, "batch_size": 8},
    "stall_seconds": None,
}


def on(dataset: str) -> dict[str, Any]:
    return {**SMALL, "data": {"kind": "dataset", "id": dataset}}


def beginning_with(checkpoint: str) -> dict[str, Any]:
    return {**SMALL, "start_from": {"checkpoint": checkpoint}}


SWEPT = {"optimizer.lr": [0.1, 0.2]}
SEARCHED = {"space": SWEPT, "objective": "test/loss", "trials": 2}
BN = {"network": {"kind": "mlp", "hidden": [4], "norm": {"kind": "batch_norm"}}}
BY_DATASET: dict[str, tuple[str, Any]] = {
    "a template": ("sweeps", lambda one: {"template": on(one), "axes": SWEPT}),
    "an arm": ("sweeps", lambda one: {"template": SMALL, "arms": {"a": {}, "b": {"data": on(one)["data"]}}}),
    "an axis": ("sweeps", lambda one: {"template": SMALL, "axes": {"data": [{"kind": "digits"}, on(one)["data"]]}}),
    "a search": ("sweeps", lambda one: {"template": on(one), "search": SEARCHED}),
    "a comparison": ("studies", lambda one: {"compare": {"baseline": on(one), "b": {**on(one), **BN}}, "delta": 0.01}),
    "one of its arms": ("studies", lambda one: {"compare": {"baseline": SMALL, "b": on(one)}, "delta": 0.01}),
    "overrides": (
        "studies",
        lambda one: {"claim": "fewer-epochs", "scale": "tiny", "overrides": {"data": on(one)["data"]}},
    ),
}
BY_CHECKPOINT: dict[str, tuple[str, Any]] = {
    "a template": ("sweeps", lambda one: {"template": beginning_with(one), "axes": SWEPT}),
    "an arm": (
        "sweeps",
        lambda one: {"template": SMALL, "arms": {"a": {}, "b": {"start_from": beginning_with(one)["start_from"]}}},
    ),
    "a comparison": (
        "studies",
        lambda one: {"compare": {"baseline": SMALL, "b": beginning_with(one)}, "delta": 0.01},
    ),
}


def told(client: Any, path: str, document: Any, named: str) -> tuple[int, Any]:
    """What is answered, but for the id that was named."""
    answer = client.post(f"/v1/{path}", json=document)
    body = answer.json()
    body.pop("instance")
    return answer.status_code, str(body).replace(named, "ID")


def test_what_belongs_to_another_is_as_if_it_were_not_there(api: Any, by_hand: Any, tmp_path: Path) -> None:
    dataset = imported(api, by_hand, tmp_path)["id"]
    _, made = trained(api, by_hand, "last")
    with holder(api) as stranger:
        for cases, mine in ((BY_DATASET, dataset), (BY_CHECKPOINT, made["last"])):
            # Sentences shorten long values, so that ids begin alike.
            unknown = mine[:-8] + "0" * 8
            for name, (path, said) in cases.items():
                for where in (path, f"{path}:validate") if path == "sweeps" else (path,):
                    theirs = told(stranger, where, said(mine), mine)
                    assert theirs[0] == 422, (name, theirs)
                    assert theirs == told(stranger, where, said(unknown), unknown), name
        assert stranger.get("/v1/sweeps").json()["data"] == []
        assert stranger.get("/v1/studies").json()["data"] == []
    path, said = BY_DATASET["a template"]
    mine = api.client.post(f"/v1/{path}", json=said(dataset))
    assert mine.status_code == 202, mine.text


@pytest.mark.parametrize("room", [12, 13])
def test_a_sweep_and_a_study_at_once_on_a_full_queue_are_each_whole_or_not_there(
    database_url: str, serve: Any, room: int
) -> None:
    """Twelve experiments and a study are thirteen jobs that wait."""
    sweep = {"template": SMALL, "axes": {"optimizer.lr": [number / 100 for number in range(1, 13)]}}
    study = {"claim": "gradients-explode-with-depth", "scale": "tiny"}
    with serve(database_url, queued_per_owner=room) as api:
        asked = [("sweeps", sweep), ("studies", study)]
        answers = at_once(2, lambda number: api.client.post(f"/v1/{asked[number][0]}", json=asked[number][1]))
        codes = [answer.status_code for answer in answers]
        refused = [answer.json() for answer in answers if answer.status_code != 202]
        assert len(refused) == (1 if room == 12 else 0), codes
        for problem in refused:
            assert problem["code"] == "quota_exceeded"
            assert f"limit of {room} queued jobs" in problem["detail"]
        with api.database.read() as session:
            counted = {
                table: session.query(table).count() for table in (Sweep, SweepExperiment, Experiment, Study, Job)
            }
        swept, studied = (code == 202 for code in codes)
        assert counted == {
            Sweep: swept,
            SweepExperiment: 12 * swept,
            Experiment: 12 * swept,
            Study: studied,
            Job: 12 * swept + studied,
        }
