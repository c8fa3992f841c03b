"""Figures of a sweep over HTTP: their numbers are those of its results."""

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from store import work
from tests.api.conftest import ByHand
from tests.bncore.figures.test_figures import rows_of

RATES, SIZES, ARMS = [0.01, 0.1, 1.0], [10, 20], ["bn", "none"]
SWEEP: dict[str, Any] = {
    "template": {"train": {"steps": 10}},
    "axes": {"optimizer.lr": RATES, "train.batch_size": SIZES},
    "arms": {"bn": {}, "none": {"network.norm.kind": "none"}},
    "seeds": 2,
}
T_1 = 12.7062
"""Student's t of 97.5 % with one degree of freedom, from a table."""
DIVERGED = (11, 9)
"""The number of the point and of another one of which a seed diverges: rate 1 without a norm, both sizes."""


def value_of(point: int, seed: int) -> float:
    return 0.5 + point / 100 + seed / 10


@pytest.fixture(scope="module")
def swept(shared_api: Any) -> str:
    made = shared_api.client.post("/v1/sweeps", json={**SWEEP, "name": "drawn"}).json()
    for number in range(24):
        seed, point = divmod(number, 12)
        hand = ByHand(shared_api.database)
        hand.start()
        hand.metrics(1, test__accuracy=[0.1, value_of(point, seed)])
        lost = point in DIVERGED and seed == 1
        hand.finish(work.Succeeded("diverged" if lost else "budget", {"steps": 2}))
    return f"/v1/sweeps/{made['id']}"


def get(api: Any, path: str, **params: Any) -> Any:
    answer = api.client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer


def points_of(arm: int, rate: int) -> list[int]:
    return [rate * 4 + size * 2 + arm for size in range(2)]


def test_those_that_are_listed_can_be_drawn_in_each_format(shared_api: Any, swept: str) -> None:
    listed = get(shared_api, f"{swept}/figures").json()["data"]
    assert [one["name"] for one in listed] == ["curves", "sensitivity", "heat_map", "parallel_coordinates"]
    begins = {"json": b"{", "svg": b"<svg", "png": b"\x89PNG", "html": b"<!DOCTYPE html>"}
    for one in listed:
        for form, first in begins.items():
            answer = get(shared_api, one["links"][form])
            assert answer.content.startswith(first)
            again = shared_api.client.get(one["links"][form], headers={"If-None-Match": answer.headers["ETag"]})
            assert again.status_code == 304


def test_sensitivity_is_the_best_mean_with_its_interval_and_what_diverged_is_lost(shared_api: Any, swept: str) -> None:
    document = get(shared_api, f"{swept}/figures/sensitivity.json", x="optimizer.lr").json()
    rows = {(row["arm"], row["x"]): row for row in rows_of(document) if "n" in row}
    for arm, name in enumerate(ARMS):
        for rate, value in enumerate(RATES):
            if (arm, rate) == (1, 2):
                assert (name, value) not in rows
                continue
            best = max(points_of(arm, rate))
            numbers = [value_of(best, seed) for seed in range(2)]
            reach = T_1 * statistics.stdev(numbers) / math.sqrt(2)
            row = rows[name, value]
            assert (row["value"], row["n"]) == (pytest.approx(statistics.fmean(numbers)), 2)
            assert row["upper"] - row["value"] == pytest.approx(reach, rel=1e-4)
    lost = [row for row in rows_of(document) if "n" not in row]
    assert [(row["arm"], row["x"]) for row in lost] == [("none", 1.0)]
    assert "at the best train.batch_size" in document["description"]


def test_a_heat_map_has_a_cell_a_point(shared_api: Any, swept: str) -> None:
    document = get(shared_api, f"{swept}/figures/heat_map.json", x="train.batch_size", y="optimizer.lr").json()
    cells = {(row["arm"], row["x"], row["y"]): row for row in rows_of(document)}
    assert len(cells) == 12
    for point in range(12):
        rate, size, arm = point // 4, point % 4 // 2, point % 2
        row = cells[ARMS[arm], str(SIZES[size]), f"{RATES[rate]:g}"]
        mean = statistics.fmean(value_of(point, seed) for seed in range(2))
        gone = "lost" if point in DIVERGED else None
        assert (row["value"], row["fate"]) == (None if gone else pytest.approx(mean), gone)


def test_a_line_goes_through_the_values_of_each_point_to_its_mean(shared_api: Any, swept: str) -> None:
    document = get(shared_api, f"{swept}/figures/parallel_coordinates.json").json()
    rows = [row for row in rows_of(document) if "point" in row]
    assert {row["point"] for row in rows} == set(range(12))
    ends = {row["point"]: row["at"] for row in rows if row["axis"] == "test/accuracy"}
    means = {point: 0.55 + point / 100 for point in range(12) if point not in DIVERGED}
    low, high = min(means.values()), max(means.values())
    assert ends == {point: pytest.approx((mean - low) / (high - low), abs=1e-6) for point, mean in means.items()}
    rates = {row["point"]: row["at"] for row in rows if row["axis"] == "optimizer.lr"}
    # Of three decades the middle one lies in the middle.
    assert rates == {point: pytest.approx(point // 4 / 2) for point in range(12)}


def test_curves_are_a_mean_a_point(shared_api: Any, swept: str) -> None:
    document = get(shared_api, f"{swept}/figures/curves.json", keys="test/accuracy").json()
    means = sorted({row["value"] for row in rows_of(document) if "lower" in row and row["step"] == 2})
    assert means == pytest.approx([0.55 + point / 100 for point in range(12)])


@pytest.mark.parametrize(
    ("name", "params", "status", "text"),
    [
        ("sensitivity.png", {"x": "optimizer.rate"}, 422, "no axis optimizer.rate"),
        ("heat_map.png", {"x": "optimizer.lr", "y": "optimizer.lr"}, 422, "two different axes"),
        ("curves.png", {"x": "optimizer.lr"}, 422, "Is for the figure sensitivity and heat_map"),
        ("sensitivity.svg", {"scale": 3}, 422, "Is for the format png"),
        ("sensitivity.png", {"measure": "test/acuracy"}, 422, "test/accuracy"),
        ("moments.png", {}, 404, "no figure moments of this sweep"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    shared_api: Any, swept: str, name: str, params: Any, status: int, text: str
) -> None:
    answer = shared_api.client.get(f"{swept}/figures/{name}", params=params)
    assert answer.status_code == status, answer.text
    assert text in answer.text


def test_a_sweep_without_results_has_no_figure_yet(shared_api: Any) -> None:
    made = shared_api.client.post("/v1/sweeps", json=SWEEP).json()
    path = f"/v1/sweeps/{made['id']}"
    assert get(shared_api, f"{path}/figures").json()["data"] == []
    for name in ("curves", "sensitivity"):
        answer = shared_api.client.get(f"{path}/figures/{name}.png")
        assert answer.status_code in (404, 422), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    shared_api.client.post(f"{path}/cancel")


def test_the_command_line_writes_one(
    shared_api: Any, swept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("URL", shared_api.url), ("API_KEY", shared_api.key)):
        monkeypatch.setenv(f"BNLAB_{name}", value)
    target = tmp_path / "map.svg"
    ran = CliRunner().invoke(app, ["sweep", "figure", "drawn", "heat_map", "-m", "test/accuracy", "-o", str(target)])
    assert ran.exit_code == 0, ran.output
    assert target.read_text().startswith("<svg")
    listed = CliRunner().invoke(app, ["sweep", "figure", swept.rpartition("/")[2]])
    assert "parallel_coordinates" in listed.output
