"""docs/sweeps.md as it stands: its commands run in one shell against a real stack, and what it shows is valid."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bncore.spec.sweep import corner_points, expand, load_sweep
from tests.client.pages import DOCS, blocks_of, run_in, script_of

PAGE = (DOCS / "sweeps.md").read_text()
BLOCKS = blocks_of(PAGE)
RATES, SEARCH, HALVING = (text for language, text in BLOCKS if language == "yaml")


def test_what_the_page_shows_expands() -> None:
    assert len(expand(load_sweep(yaml.safe_load(RATES)))) == 2 * 2 * 2
    assert len(corner_points(load_sweep(yaml.safe_load(SEARCH)))) == 4
    assert len(expand(load_sweep(yaml.safe_load(HALVING)))) == 9 * 2
    (search,) = (json.loads(text) for language, text in BLOCKS if language == "json")
    assert len(expand(load_sweep(search))) == 20 * 3


@pytest.mark.system
@pytest.mark.timeout(300)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    (tmp_path / "rates.yaml").write_text(RATES)
    (tmp_path / "search.yaml").write_text(SEARCH)
    (tmp_path / "halving.yaml").write_text(HALVING)
    script = script_of(BLOCKS)
    done = run_in(tmp_path, stack, "bash", "-c", script)
    assert re.search(r"^0\.05 +bn +0\.\d+ ± ", done.stdout, re.MULTILINE), done.stdout
    rows = list(csv.DictReader((tmp_path / "rates.csv").read_text().splitlines()))
    assert [(row["optimizer.lr"], row["arm"], row["n"]) for row in rows] == [
        (lr, arm, "3") for lr in ("0.05", "0.5") for arm in ("bn", "plain")
    ]
    assert all(0.0 < float(row["test/accuracy mean"]) <= 1.0 for row in rows)
    for name, begins in (
        ("rates.png", b"\x89PNG"),
        ("curves.svg", b"<svg"),
        ("search.png", b"\x89PNG"),
        ("halving.png", b"\x89PNG"),
    ):
        assert (tmp_path / name).read_bytes().startswith(begins)
    assert len({one for row in rows for one in row["experiments"].split()}) == 12
