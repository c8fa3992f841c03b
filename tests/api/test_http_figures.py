"""Figures and tables over HTTP, drawn by a real process beside the service."""

import csv
import io
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, update

from bncore.recording import FILE_KIND, Recording, Site
from store import keys
from store.columns import core
from store.keys import KeyScope
from store.tables import Experiment
from tests.api.holders import holder
from tests.api.trouble import until

NAME = "</script><script>alert(1)</script>"
LOSS = [2.0, 1.0, 0.5, float("nan")]
T_1 = 12.706204736174698
"""Student's t of one degree of freedom: tan(0.95 pi / 2)."""


def recording(step: int) -> Recording:
    sites = (Site("a", 1, "weights"), Site("b", 2, "weights"))
    return Recording("gradient_norms", step, {"norm": np.array([1.0, 0.1])}, {"norm": ("site",)}, {}, sites)


@pytest.fixture(scope="module")
def filled(shared_api: Any, by_hand: Any) -> dict[str, Any]:
    """Two seeds of one arm, one of another, all with series; the first with recordings too."""
    ids = {}
    for name, spec in {
        "first": {"name": NAME, "tags": {"q": "a"}, "train": {"seed": 0}},
        "second": {"tags": {"q": "a"}, "train": {"seed": 1}},
        "other": {"tags": {"q": "a"}, "network": {"kind": "mlp", "norm": {"kind": "none"}}},
    }.items():
        ids[name] = shared_api.submit(**spec)
        worker = by_hand(shared_api.database)
        worker.start()
        factor = 3.0 if name == "second" else 1.0
        worker.metrics(1, train__loss=[factor * value for value in LOSS])
        if name == "first":
            for step in (0, 10):
                worker.file(recording(step).file_name, recording(step).to_bytes(), FILE_KIND)
        worker.finish()
    return ids


class _Tags(HTMLParser):
    """What a browser would take for tags, scripts and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.addresses: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1] == "script":
            self.scripts.append(data.strip())


def get(api: Any, path: str, **query: Any) -> httpx.Response:
    return api.client.get(path, params=query)


def rows_of(document: Any) -> Iterator[dict[str, Any]]:
    """All data of a document, layer by layer."""
    if isinstance(document, dict):
        if isinstance(document.get("data"), dict):
            yield from document["data"]["values"]
        for inner in document.values():
            yield from rows_of(inner)
    elif isinstance(document, list):
        for inner in document:
            yield from rows_of(inner)


def test_an_experiment_lists_the_figures_that_its_results_allow(shared_api: Any, filled: dict[str, str]) -> None:
    def listed(one: str) -> dict[str, Any]:
        answer = get(shared_api, f"/v1/experiments/{one}/figures")
        assert answer.status_code == 200
        return {figure["name"]: figure["links"] for figure in answer.json()["data"]}

    assert list(listed(filled["other"])) == ["curves"]
    there = listed(filled["first"])
    assert list(there) == ["curves", "gradient_norms"]
    missing = get(shared_api, f"/v1/experiments/{filled['other']}/figures/gradient_norms.png")
    assert missing.status_code == 404
    assert missing.json()["code"] == "figure_not_found"
    said = (
        "There is no figure gradient_norms of this experiment, for it has no gradient_norms; what it has allows curves."
    )
    assert missing.json()["detail"] == said
    wrong = get(shared_api, f"/v1/experiments/{filled['first']}/figures/curvs.png").json()
    said = (
        "There is no figure curvs of this experiment; did you mean curves? What it has allows curves, gradient_norms."
    )
    assert wrong["detail"] == said
    series = get(shared_api, f"/v1/experiments/{filled['first']}/figures/curves.png", keys="train/los").json()
    assert series["errors"][0]["detail"].startswith("There is no series train/los; did you mean train/loss?")


def test_each_format_is_what_it_says_and_its_tag_holds(shared_api: Any, filled: dict[str, str]) -> None:
    base = f"/v1/experiments/{filled['first']}/figures"
    begins = {"json": b"{", "svg": b"<svg", "png": b"\x89PNG", "html": b"<!DOCTYPE html>"}
    for name in ("curves", "gradient_norms"):
        for form, first in begins.items():
            answer = get(shared_api, f"{base}/{name}.{form}")
            assert answer.status_code == 200, answer.text
            assert answer.content.startswith(first)
            again = shared_api.client.get(f"{base}/{name}.{form}", headers={"If-None-Match": answer.headers["ETag"]})
            assert (again.status_code, again.content) == (304, b"")
    head = shared_api.client.head(f"{base}/curves.png")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["ETag"] == get(shared_api, f"{base}/curves.png").headers["ETag"]
    assert head.headers["ETag"] != get(shared_api, f"{base}/curves.png", theme="dark").headers["ETag"]
    wide, narrow = (get(shared_api, f"{base}/curves.png", scale=scale).content[16:20] for scale in (4, 1))
    assert int.from_bytes(wide, "big") == pytest.approx(4 * int.from_bytes(narrow, "big"), abs=4)
    values = {row["site"]: row["value"] for row in rows_of(get(shared_api, f"{base}/gradient_norms.json").json())}
    assert values == {"a": 1.0, "b": 0.1}


def test_a_page_is_self_contained_and_no_name_becomes_script(shared_api: Any, filled: dict[str, str]) -> None:
    answer = get(shared_api, f"/v1/experiments/{filled['first']}/figures/curves.html")
    tags = _Tags()
    tags.feed(answer.text)
    assert set(tags.found) == {"html", "head", "body", "style", "meta", "title", "div", "script"} & set(tags.found)
    assert not tags.addresses
    # The name is a string within the one that draws.
    assert "alert(1)" in answer.text
    assert not [text for text in tags.scripts if text.startswith("alert")]
    assert "connect-src" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    svg = get(shared_api, f"/v1/experiments/{filled['first']}/figures/curves.svg")
    assert "alert(1)" in svg.text
    assert "<script" not in svg.text


def test_several_experiments_are_the_mean_over_seeds_with_its_interval(shared_api: Any, filled: dict[str, str]) -> None:
    body = {"name": "curves", "experiments": list(filled.values()), "keys": ["train/loss"]}
    answer = shared_api.client.post("/v1/figures", json=body)
    assert answer.status_code == 200, answer.text
    assert (
        shared_api.client.post("/v1/figures", json={**body, "experiments": None, "tag": "q:a"}).json() == answer.json()
    )
    means = [row for row in rows_of(answer.json()) if "lower" in row]
    # Of a and 3 a the mean is 2 a, and the standard error a. Where one is NaN there is none.
    first = next(row for row in means if row["step"] == 1)
    assert {row["step"] for row in means} == {1, 2, 3}
    assert first["value"] == pytest.approx(4.0)
    assert first["upper"] == pytest.approx(4.0 + T_1 * 2.0, rel=1e-6)
    assert first["lower"] == pytest.approx(4.0 - T_1 * 2.0, rel=1e-6)
    alone = [row["value"] for row in rows_of(answer.json()) if row.get("run") == filled["other"] and "part" in row]
    assert alone == [2.0, 1.0, 0.5]


def test_what_was_stored_before_a_field_was_there_is_the_same_arm(shared_api: Any, filled: dict[str, str]) -> None:
    asked = {"name": "curves", "experiments": list(filled.values()), "keys": ["train/loss"]}
    before = shared_api.client.post("/v1/figures", json=asked).json()
    table = core(Experiment)
    mine = table.c.id == filled["second"]
    with shared_api.database.write() as session:
        spec = session.execute(select(table.c.spec).where(mine)).scalar_one()
        older = {key: value for key, value in spec.items() if key not in ("diagnostics", "start_from")}
        # What a run survives says nothing of its results.
        session.execute(update(table).where(mine).values(spec={**older, "stall_seconds": 7.0}))
    assert shared_api.client.post("/v1/figures", json=asked).json() == before


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "curve"}, "/name"),
        ({"experiments": ["exp_" + "0" * 32]}, "/experiments/0"),
        ({"tag": "q:a"}, "/experiments"),
        ({"experiments": None, "tag": "none"}, "/tag"),
        ({"experiments": None, "tag": ""}, "/tag"),
        ({"keys": ["train/lost"]}, "/keys"),
        ({"scale": 2.0}, "/scale"),
        ({"format": "png", "scale": 100.0}, "/scale"),
        ({"format": "png", "width": 1600, "scale": 4.0}, "/scale"),
        ({"name": "gradient_norms", "log_y": True}, "/log_y"),
        ({"themes": 1}, "/themes"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_pointer(
    shared_api: Any, filled: dict[str, str], change: dict[str, Any], pointer: str
) -> None:
    body = {"name": "curves", "experiments": [filled["first"]], **change}
    answer = shared_api.client.post("/v1/figures", json=body)
    assert answer.status_code == 422, answer.text
    assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]


def test_a_picture_that_is_too_large_is_refused_with_the_greatest_scale(
    shared_api: Any, filled: dict[str, str]
) -> None:
    address = f"/v1/experiments/{filled['first']}/figures/curves.png"
    refused = shared_api.client.get(address, params={"width": 1600, "scale": 2.01})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/query/scale")
    assert refused.json()["errors"][0]["detail"].endswith("use 2 or less")
    largest = get(shared_api, address, width=1600, scale=2)
    assert int.from_bytes(largest.content[16:20], "big") == pytest.approx(3200, abs=100)


def test_others_have_no_figures_of_it_and_readers_may_draw(shared_api: Any, filled: dict[str, str]) -> None:
    with shared_api.database.write() as session:
        reader = keys.create(session, "k", scopes=[KeyScope.READ]).secret
    base = f"/v1/experiments/{filled['first']}"
    body = {"name": "curves", "experiments": [filled["first"]]}
    with holder(shared_api, "strangers") as client:
        for path in (f"{base}/figures", f"{base}/figures/curves.json", f"{base}/metrics?format=csv"):
            assert client.get(path).status_code == 404
        assert client.post("/v1/figures", json=body).status_code == 422
        assert client.post("/v1/figures", json={"name": "curves", "tag": "q"}).status_code == 422
    as_reader = {"Authorization": f"Bearer {reader}"}
    assert shared_api.client.post("/v1/figures", json=body, headers=as_reader).status_code == 200


def test_series_come_as_tables_to_the_bit(shared_api: Any, filled: dict[str, str]) -> None:
    path = f"/v1/experiments/{filled['second']}/metrics"
    text = get(shared_api, path, format="csv")
    assert text.headers["content-type"].startswith("text/csv")
    rows = rows_in(text.text)
    assert [(row["key"], int(row["step"])) for row in rows] == [("train/loss", step) for step in (1, 2, 3, 4)]
    expected = np.array([3.0 * value for value in LOSS])
    np.testing.assert_array_equal([float(row["value"]) for row in rows], expected)
    table = pq.read_table(io.BytesIO(get(shared_api, path, format="parquet").content))
    assert table.column_names == ["key", "step", "value"]
    assert table["value"].null_count == 0
    np.testing.assert_array_equal(table["value"].to_numpy(), expected)
    empty = get(shared_api, path, format="parquet", keys="none")
    assert pq.read_table(io.BytesIO(empty.content)).schema == table.schema


def test_a_recording_comes_as_a_table(shared_api: Any, filled: dict[str, str]) -> None:
    path = f"/v1/experiments/{filled['first']}/diagnostics/gradient_norms"
    answer = get(shared_api, path, format="csv", step=10)
    found = [(row["step"], row["array"], row["site"], row["depth"], row["value"]) for row in rows_in(answer.text)]
    assert found == [("10", "norm", "a", "1", "1.0"), ("10", "norm", "b", "2", "0.1")]
    assert get(shared_api, path, format="parquet").headers["ETag"] != answer.headers["ETag"]


def rows_in(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def child_of(api: Any) -> psutil.Process:
    pid = api.server._service.aside.pid
    assert pid is not None
    return psutil.Process(pid)


def questions(api: Any) -> int:
    """How many the process has been asked."""
    return int(api.server._service.aside._child._turns)


def test_a_process_killed_while_it_draws_costs_one_answer(serve: Any, sqlite_url: str, by_hand: Any) -> None:
    with serve(sqlite_url) as api, ThreadPoolExecutor(8) as pool:
        one = api.submit()
        worker = by_hand(api.database)
        worker.start()
        worker.metrics(1, train__loss=[1.0, 2.0])
        path = f"/v1/experiments/{one}/figures/curves.png"
        assert get(api, path).status_code == 200
        child = child_of(api)
        assert not [name for name in child.environ() if name.startswith("BNLAB_")]
        # A process that stands still is one that draws for long.
        child.send_signal(signal.SIGSTOP)
        answers = [pool.submit(get, api, path) for _ in range(6)]
        until(lambda: questions(api) == 2)
        assert get(api, f"/v1/experiments/{one}").status_code == 200
        child.kill()
        statuses = sorted(answer.result().status_code for answer in answers)
        assert statuses == [200] * 5 + [503]
        lost = next(answer.result() for answer in answers if answer.result().status_code == 503)
        assert lost.json()["code"] == "drawing_interrupted"
        assert int(lost.headers["Retry-After"]) >= 1
        last = child_of(api)
        assert last.pid != child.pid
    # It ends with the service.
    last.wait(60)


def test_a_picture_that_cannot_be_afforded_is_refused_before_it_is_begun(
    serve: Any, sqlite_url: str, by_hand: Any
) -> None:
    """40 % of the CPU seconds that a figure may take are what a PNG may be estimated at."""
    with serve(sqlite_url, aside_seconds=5.0) as api:
        one = api.submit()
        worker = by_hand(api.database)
        worker.start()
        values = np.cos(np.arange(4000.0)).tolist()
        worker.metrics(1, **{f"a__{key}": values for key in range(6)})
        path = f"/v1/experiments/{one}/figures/curves.png"
        asked = {"keys": [f"a/{key}" for key in range(6)], "width": 800, "scale": 4.0}
        body = {"name": "curves", "experiments": [one], "format": "png", **asked}
        by_path, by_body = get(api, path, **asked), api.client.post("/v1/figures", json=body)
        assert (by_path.status_code, by_body.status_code) == (422, 422), by_path.text
        (fault,), (same,) = by_path.json()["errors"], by_body.json()["errors"]
        assert (fault["pointer"], same["pointer"]) == ("/query/scale", "/scale")
        assert fault["detail"] == same["detail"]
        most = re.search(r"at a scale of 4: use ([0-9.]+) or less, or svg", fault["detail"])
        assert most is not None, fault
        drawn = get(api, path, **{**asked, "scale": float(most[1])})
        assert drawn.content.startswith(b"\x89PNG"), drawn.text
        assert get(api, path.replace(".png", ".svg"), keys=asked["keys"], width=800).status_code == 200


def test_who_waits_is_bounded_and_who_leaves_is_dropped(serve: Any, sqlite_url: str, by_hand: Any) -> None:
    with serve(sqlite_url, aside_waiting=4) as api, ThreadPoolExecutor(8) as pool:
        one = api.submit()
        worker = by_hand(api.database)
        worker.start()
        worker.metrics(1, train__loss=[1.0, 2.0])
        path = f"/v1/experiments/{one}/figures/curves.json"
        assert get(api, path).status_code == 200
        child = child_of(api)
        child.send_signal(signal.SIGSTOP)
        drawing = pool.submit(get, api, path)
        until(lambda: questions(api) == 2)
        leavers = [_asking(api, path) for _ in range(2)]
        until(lambda: api.server._service.aside.waiting == 2)
        refused = get(api, path)
        assert refused.status_code == 503
        assert refused.json()["code"] == "overloaded"
        assert "Retry-After" in refused.headers
        with holder(api, "others") as other:
            # Of whom nobody waits yet: what is asked is looked at.
            assert other.get(path).status_code == 404
        for leaver in leavers:
            leaver.close()
        until(lambda: api.server._service.aside.waiting == 0)
        child.kill()
        assert drawing.result().status_code == 503
        assert get(api, path).status_code == 200


def test_the_process_ends_when_nobody_asks(serve: Any, sqlite_url: str, by_hand: Any) -> None:
    with serve(sqlite_url, aside_idle_seconds=0.2) as api:
        one = api.submit()
        worker = by_hand(api.database)
        worker.start()
        worker.metrics(1, train__loss=[1.0, 2.0])
        path = f"/v1/experiments/{one}/figures/curves.json"
        for _ in range(2):
            assert get(api, path).status_code == 200
            until(lambda: api.server._service.aside.pid is None)


def _asking(api: Any, path: str) -> socket.socket:
    """A client that has asked, and does not wait for the answer."""
    asking = socket.create_connection(("127.0.0.1", api.port))
    asking.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode())
    return asking
