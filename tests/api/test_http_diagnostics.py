"""What diagnostics recorded over HTTP: listed, as numbers, as arrays, and their owner's alone."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bncore.events import NormsChecked
from bncore.recording import FILE_KIND, Recording, Site, from_bytes
from tests.api.holders import holder

SITES = (Site("hidden1.linear", 1, "weights"), Site("output", 2, "weights"))


def recording(step: int, rows: int = 3) -> Recording:
    return Recording(
        kind="gradient_heatmap",
        step=step,
        arrays={
            "gradient": np.arange(rows * 4, dtype=np.float32).reshape(rows, 4),
            "ratio": np.array([math.nan, -math.inf]),
        },
        axes={"gradient": ("image", "class"), "ratio": ("site",)},
        units={"gradient": "loss / logit"},
        sites=SITES,
        scalars={"mode": 0.5, "cosine": math.nan},
    )


def store(by_hand: Any, *recordings: Recording) -> list[str]:
    return [by_hand.file(one.file_name, one.to_bytes(), FILE_KIND, one.step) for one in recordings]


@pytest.fixture
def measured(api: Any, by_hand: Callable[..., Any]) -> tuple[Any, str, Any]:
    experiment = api.submit()
    hand = by_hand(api.database)
    store(hand, recording(10), recording(0))
    return api.client, f"/v1/experiments/{experiment}", hand


def test_they_are_listed_by_kind_and_step_and_their_numbers_are_what_was_recorded(measured: Any) -> None:
    client, base, _ = measured
    (listed,) = client.get(f"{base}/diagnostics").json()["data"]
    assert (listed["kind"], listed["steps"]) == ("gradient_heatmap", [0, 10])
    for file in listed["files"]:
        content = client.get(f"/v1/files/{file['id']}/content").content
        assert (from_bytes(content).step, len(content)) == (file["step"], file["size"])
    newest = client.get(listed["numbers"]).json()
    assert newest["step"] == 10
    assert newest["sites"] == [{"name": site.name, "depth": site.depth, "role": site.role} for site in SITES]
    assert newest["scalars"] == {"mode": 0.5, "cosine": "NaN"}
    assert newest["arrays"]["ratio"]["values"] == ["NaN", "-Infinity"]
    gradient = newest["arrays"]["gradient"]
    assert (gradient["axes"], gradient["unit"], gradient["shape"]) == (["image", "class"], "loss / logit", [3, 4])
    assert gradient["values"] == recording(10).arrays["gradient"].tolist()
    assert gradient["kept"] == {}


def test_a_step_that_was_not_measured_is_told_which_were(measured: Any) -> None:
    client, base, _ = measured
    assert client.get(f"{base}/diagnostics/gradient_heatmap?step=0").json()["step"] == 0
    for path, said in (
        ("gradient_heatmap?step=7", "near are those of 0, 10"),
        ("step_probe", "`diagnostics` of a spec"),
    ):
        refused = client.get(f"{base}/diagnostics/{path}")
        assert (refused.status_code, refused.json()["code"]) == (404, "diagnostic_not_found")
        assert said in refused.json()["detail"]
    assert client.get(f"{base}/diagnostics/gradient_heatmap?step=-1").status_code == 422
    assert client.get(f"{base}/diagnostics/gradient_heatmap?format=csv2").status_code == 422


def test_other_formats_hold_the_same(measured: Any) -> None:
    client, base, _ = measured
    path = f"{base}/diagnostics/gradient_heatmap"
    stored = client.get(path, params={"format": "safetensors", "step": 0})
    assert stored.content == recording(0).to_bytes()
    archive = client.get(path, params={"format": "npz", "step": 0})
    with np.load(io.BytesIO(archive.content)) as arrays:
        assert np.array_equal(arrays["gradient"], recording(0).arrays["gradient"])
        assert arrays["sites/name"].tolist() == [site.name for site in SITES]
        assert float(arrays["scalars/mode"]) == 0.5
        assert arrays["notes"].tolist() == []
    for answer in (stored, archive, client.get(path)):
        tag = answer.headers["etag"]
        params = dict(answer.request.url.params)
        assert client.get(path, params=params, headers={"If-None-Match": tag}).status_code == 304
        head = client.head(path, params=params)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)


def test_what_is_large_is_thinned_with_both_ends(measured: Any) -> None:
    client, base, hand = measured
    large = recording(20, rows=1000)
    store(hand, large)
    gradient = client.get(f"{base}/diagnostics/gradient_heatmap?max_values=100").json()["arrays"]["gradient"]
    kept = gradient["kept"]["image"]
    assert (gradient["shape"], len(kept), kept[0], kept[-1]) == ([1000, 4], 25, 0, 999)
    assert gradient["values"] == large.arrays["gradient"][kept].tolist()


def test_to_others_there_are_none(sqlite_api: Any, by_hand: Callable[..., Any]) -> None:
    with holder(sqlite_api, "team", "submit", "read") as mine, holder(sqlite_api, "others") as theirs:
        experiment = mine.post("/v1/experiments", json={}).json()["id"]
        store(by_hand(sqlite_api.database), recording(0))
        for path in ("diagnostics", "diagnostics/gradient_heatmap"):
            assert mine.get(f"/v1/experiments/{experiment}/{path}").status_code == 200
            assert theirs.get(f"/v1/experiments/{experiment}/{path}").json()["code"] == "experiment_not_found"


def test_results_say_what_is_wrong_with_the_normalizations_now(measured: Any) -> None:
    client, base, hand = measured
    assert client.get(f"{base}/results").json()["warnings"] == []
    hand.append(NormsChecked(step=1, warnings=("norm1 is dead.",)))
    hand.metrics(1, diagnostics__norm_health__warnings=[1.0])
    assert client.get(f"{base}/results").json()["warnings"] == ["norm1 is dead."]
    hand.append(NormsChecked(step=2))
    hand.metrics(2, diagnostics__norm_health__warnings=[0.0])
    assert client.get(f"{base}/results").json()["warnings"] == []
