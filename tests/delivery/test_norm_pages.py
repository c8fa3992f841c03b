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
        assert kind.kind == "none" or "## Papers" in page, kind.kind


def test_every_page_has_its_equation_and_names_the_papers_that_it_cites() -> None:
    for path in PAGES.glob("*.md"):
        if path.stem in ("README", "which_one", "pairs", "none"):
            continue
        page = path.read_text()
        equations = re.findall(r"^\$\$\n(.+)\n\$\$$", page, flags=re.MULTILINE)
        assert equations, path.name
        for equation in equations:
            assert equation.count("{") == equation.count("}")
            words = re.findall("[A-Za-z]+", equation)
            assert words.count("left") == words.count("right")
            # Markdown would take the backslash away.
            assert not re.search(r"\\[^A-Za-z]", equation), equation
        text, _, papers = page.partition("## Papers")
        linked = re.findall(
            r"- [^:]+: \*[^*]+\*, (?:19|20)\d\d\. \[arXiv ([^]\s]+)\]\(https://arxiv.org/abs/([^)\s]+)\)",
            " ".join(papers.split()),
        )
        assert {number for number, _ in linked} >= set(
            re.findall(r"arXiv (\d{4}\.\d{5})", text.partition("## In a spec")[0])
        )
        assert linked
        assert all(number == link for number, link in linked)


def test_the_guide_leads_to_every_page() -> None:
    guide = (PAGES / "which_one.md").read_text()
    assert {f"{path.stem}.md" for path in PAGES.glob("*.md")} - {"which_one.md"} == set(
        re.findall(r"\]\(([^)\s]+)\)", guide)
    )


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
