"""The page about the claims is what claims.json and claims.yaml say, and leaves no claim and no verdict out."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bncore.studies.asking import document_of, fingerprint_of
from bncore.studies.claims import CLAIMS
from bncore.studies.guards import Guard
from bncore.studies.reporting import document
from bncore.studies.reports import holm
from bncore.studies.verdict import Verdict, Words
from bncore.studies.verdict import document as verdict_document

DOCS = Path(__file__).parents[2] / "docs"
WRITER = DOCS / "write_claims_page.py"
_OUTCOMES = {"holds": "This holds", "does_not_hold": "This does not hold", "inconclusive": "This stays open"}


def written(*arguments: str | Path, code: int = 0) -> str:
    """What the writer says of what is wrong."""
    done = subprocess.run([sys.executable, WRITER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def article(outcomes: dict[str, dict[str, str]], scale: str = "cpu") -> dict[str, Any]:
    """The report of an article of claims whose questions came out so."""
    parts, verdicts = [], []
    for claim, questions in outcomes.items():
        design = CLAIMS[claim].design(scale)
        parts.append(
            {
                "study": {"id": claim, "name": None, "scale": scale, "spec": {"claim": claim}},
                "claim": claim,
                "design": document_of(design),
                "fingerprint": fingerprint_of(design),
                "runs": [
                    {"arm": "bn", "seed": seed, "setting": {}, "stage": "confirm", "metrics": {}, "seconds": 90.5}
                    for seed in range(7)
                ],
            }
        )
        for name, outcome in questions.items():
            words = Words(f"Is {name} | <so>?", "error", "bn")
            guards = (Guard("winner_inside_grid", outcome != "inconclusive", "At the edge."),)
            said = f"{_OUTCOMES[outcome]}: {name} came out."
            verdict = Verdict(f"{claim}/{name}", words, outcome, None, (), said, 7, guards)
            verdicts.append({**verdict_document(verdict), "claim": claim, "study": claim})
    shown = {"id": "stu_a", "name": None, "scale": scale, "spec": {"claim": "article"}}
    about = {"number": 1, "judged_at": 1_790_000_000.0, "facts": {"versions": {"bnlab": "1.0"}}}
    return document({"study": shown, "parts": parts, "verdicts": verdicts, **about})


def sections_of(text: str) -> dict[str, str]:
    found = re.split(r"^##+ (.+)$", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_the_page_is_the_one_that_its_data_make_and_has_every_claim_with_every_sentence(tmp_path: Path) -> None:
    (tmp_path / "claims.json").write_text((DOCS / "claims.json").read_text())
    written("--folder", tmp_path)
    text = (tmp_path / "claims.md").read_text()
    assert (DOCS / "claims.md").read_text() == text, "run `make pages`"
    said = " ".join(text.replace("&lt;", "<").replace("\\", "").split())
    data = json.loads((DOCS / "claims.json").read_text())
    for name, claim in CLAIMS.items():
        section = sections_of(text)[f"{claim.number} {name}"]
        judged = data["claims"].get(name, {"questions": []})["questions"]
        assert all(f"`{question['name']}`" in section for question in judged)
    assert all(one["sentence"] in said for claim in data["claims"].values() for one in claim["questions"])


def test_a_run_is_taken_in_and_what_is_against_the_article_comes_first(tmp_path: Path) -> None:
    """A counter-claim that holds is against it, one that fails says nothing, and neither does what stands beside."""
    found = {
        "gradients-explode-with-depth": {"explodes": "holds", "plain": "holds"},
        "gain-is-the-learning-rate": {"same_rate": "does_not_hold", "own_rate": "does_not_hold"},
        "works-in-rnn": {"rows": "does_not_hold", "pixels": "inconclusive", "by_step": "holds"},
    }
    report = tmp_path / "report.json"
    report.write_text(json.dumps(article(found)))
    written(report, "--folder", tmp_path)
    text = (tmp_path / "claims.md").read_text()
    sections = sections_of(text)
    against = re.findall(r"^- `(\w+)`", sections["Against the article's wording"], re.MULTILINE)
    # In the order of the article.
    assert against == ["rows", "explodes"]
    rows = re.findall(r"^\| C\d+ \| `(\w+)` \| ([^|]+) \| ([^|]+) \|.*\| (\d+) \| (\S+) \|$", text, re.MULTILINE)
    assert {name: (stance, failed) for name, _, stance, _, failed in rows} == {
        "explodes": ("against", "-"),
        "plain": ("-", "-"),
        "same_rate": ("counter-claim fails", "-"),
        "own_rate": ("-", "-"),
        "rows": ("against", "-"),
        "pixels": ("open", "`winner_inside_grid`"),
        "by_step": ("with", "-"),
    }
    assert f"| C12 `works-in-rnn` | 7 | 7 | 0 | 0 | {7 * 90.5 / 60:.0f} min |" in text
    assert "Is rows \\| &lt;so>?" in sections["C12 works-in-rnn"]
    assert "Not judged in this run." in sections["C1 fewer-epochs"]
    assert "decides nothing" not in text
    kept = (tmp_path / "claims.json").read_text()
    written(report, "--folder", tmp_path)
    assert (tmp_path / "claims.json").read_text() == kept


def test_verdicts_of_another_design_are_marked_and_a_smoke_run_decides_nothing(tmp_path: Path) -> None:
    report = article({"works-in-rnn": {"rows": "holds"}}, scale="tiny")
    report["parts"][0]["fingerprint"] = "another"
    (tmp_path / "report.json").write_text(json.dumps(report))
    written(tmp_path / "report.json", "--folder", tmp_path)
    text = (tmp_path / "claims.md").read_text()
    assert "The design has changed since this run" in sections_of(text)["C12 works-in-rnn"]
    assert "decides nothing" in text.partition("## ")[0]


def test_numbers_are_those_of_the_report_as_sentences_have_them(tmp_path: Path) -> None:
    report = article({"works-in-rnn": {"rows": "holds"}})
    p = holm([0.0123456, 0.9])[0]
    shown = {"effect": 1.23456, "low": 0.000123456, "high": 1234.56, "unit": "points"}
    (verdict,) = report["parts"][0]["verdicts"]
    verdict["estimated"] = {"shown": shown, "tests": {"decision_holm": p}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    written(tmp_path / "report.json", "--folder", tmp_path)
    row = f"| with | 1.23 [0.000123, 1235] points | {p:.3g} | 7 | - |"
    assert row in (tmp_path / "claims.md").read_text()


@pytest.mark.parametrize("unfit", [{"kind": "study"}, {"kind": "article", "judged_at": None}])
def test_what_is_no_judged_article_is_refused_and_changes_nothing(tmp_path: Path, unfit: dict[str, Any]) -> None:
    (tmp_path / "report.json").write_text(json.dumps(unfit))
    assert "no report of an article that was judged" in written(tmp_path / "report.json", "--folder", tmp_path, code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_what_is_said_by_hand_is_of_questions_and_claims_that_there_are() -> None:
    by_hand = yaml.safe_load((DOCS / "claims.yaml").read_text())
    for stances in (by_hand["counter"], by_hand["aside"]):
        for claim, names in stances.items():
            assert set(names) <= set(CLAIMS[claim].design("cpu").margins)
    numbers = {claim.number for claim in CLAIMS.values()}
    assert all(set(change["claims"]) <= numbers for change in by_hand["changes"])
