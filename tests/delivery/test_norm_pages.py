"""The pages about normalizations are what the code says of itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bncore.spec import SpecError, kinds, load_spec, parse_json

PAGES = Path(__file__).parents[2] / "docs" / "norms"


def test_the_pages_are_those_that_the_docstrings_make(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PAGES.parent / "write_norm_pages.py", tmp_path], check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in PAGES.glob("*.md")}
    assert kept == made, "run `make pages`"


def test_every_kind_has_a_page_with_its_paper() -> None:
    for kind in kinds("normalizers"):
        page = (PAGES / f"{kind.kind}.md").read_text()
        assert "## When to use it" in page
        assert "## What it costs" in page
        assert kind.kind in ("none", "masked_batch_norm") or "arXiv" in page, kind.kind


def test_the_spec_on_a_page_is_accepted_or_the_page_says_why_it_is_not() -> None:
    for kind in kinds("normalizers"):
        page = (PAGES / f"{kind.kind}.md").read_text()
        (text,) = re.findall(r"```json\n(.*)\n```", page)
        if kind.kind in ("frozen_batch_norm", "masked_batch_norm"):
            with pytest.raises(SpecError) as refused:
                load_spec(parse_json(text))
            assert f"Refused as yet: {refused.value.faults[0].detail}." in " ".join(page.split())
        else:
            assert load_spec(parse_json(text)).network.norm.kind == kind.kind
            assert "Refused as yet" not in page
