"""docs/studies.md as it stands: a newcomer's way from a table and two networks to a verdict and a report."""

import json
from pathlib import Path
from typing import Any

import pytest

from bncore.spec.study import load_study
from bncore.studies.asking import checked
from client.documents import read_document
from tests.bncore.studies.pages import Page
from tests.client.pages import DOCS, blocks_of, run_in, script_of

PAGE = (DOCS / "studies.md").read_text()
BLOCKS = blocks_of(PAGE)
STEPS = next(text for language, text in BLOCKS if language == "yaml")


def test_what_the_page_shows_can_be_asked() -> None:
    _, asked = checked(load_study(read_document(STEPS, json=False).value), lambda document: document)
    assert (asked.design.seeds, asked.design.most) == (6, 12)
    assert [arm.name for arm in asked.design.arms] == ["baseline", "bn"]


@pytest.mark.system
@pytest.mark.timeout(400)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    (tmp_path / "steps.yaml").write_text(STEPS)
    done = run_in(tmp_path, stack, "bash", "-c", script_of(BLOCKS))
    assert "This " in done.stdout
    page = (tmp_path / "flowers.html").read_text()
    seen = Page(page)
    assert seen.open == []
    assert not seen.tags["script"]
    # Effects, the settings that were tried, how the arms learned, and each question seed by seed.
    assert seen.tags["svg"] >= 4
    report = json.loads((tmp_path / "steps.json").read_text())
    (verdict,) = report["verdicts"]
    assert verdict["n"] == 6
    assert verdict["sentence"] in " ".join(Page((tmp_path / "steps.html").read_text()).said)
    runs = {(run["arm"], run["seed"]): run for run in report["runs"]}
    assert set(runs) == {(arm, seed) for arm in ("baseline", "bn") for seed in range(6)}
    # After eight seeds the first six gave the same numbers.
    assert "over 8 seeds" in " ".join(done.stdout.split())
