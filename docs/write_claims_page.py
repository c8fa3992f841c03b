"""Write docs/claims.md, what the article's claims came to: `make pages`.

`python docs/write_claims_page.py REPORT.json` takes in the report of an article (`bnlab study report ID --json`) first:
what the page needs of it becomes claims.json, and the page is made of that and of claims.yaml, which is kept by hand.
No verdict is made here, and none is left out. A test writes the page anew and compares.
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bncore.studies.asking import fingerprint_of, has_scale
from bncore.studies.claims import CLAIMS
from bncore.studies.sentences import written

FOLDER = Path(__file__).parent
DATA, BY_HAND, PAGE = "claims.json", "claims.yaml", "claims.md"
Json = dict[str, Any]
_STANCES = {
    "against": "against",
    "with": "with",
    "open": "open",
    "counter": "counter-claim fails",
    "aside": "-",
}
"""How a verdict stands to the article's wording, and what the table says for it."""
_SAID = {"holds": "holds", "does_not_hold": "does not hold", "inconclusive": "open"}
_HEAD = """# The article, claim by claim

Written by `make pages` from `docs/claims.json` and `docs/claims.yaml`. The first is what a run of `bnlab article` was
judged to, as it is; `python docs/write_claims_page.py REPORT.json` takes in another one. The second says how a question
stands to the article's wording. What each question asks, which effect is worth calling one, and how a verdict comes
about was written down before it ran: [studies-design.md](studies-design.md). What was changed later is listed at the
end. A verdict against the article is a result."""


def main() -> None:
    """Take in a report, if one is given, and write the page."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("report", nargs="?", type=Path, help="of an article, as JSON")
    asked.add_argument("--folder", type=Path, default=FOLDER, help="where claims.json is, and claims.md is written")
    said = asked.parse_args()
    if said.report is not None:
        (said.folder / DATA).write_text(text_of(taken_in(json.loads(said.report.read_text()))))
    by_hand = yaml.safe_load((FOLDER / BY_HAND).read_text())
    (said.folder / PAGE).write_text(page(json.loads((said.folder / DATA).read_text()), by_hand))


def taken_in(report: Mapping[str, Any]) -> Json:
    """What the page needs of an article's report, numbers as a report shows them.

    Raises:
        SystemExit: it is no report of an article, or nothing has been judged.
    """
    if report.get("kind") != "article" or not report.get("judged_at"):
        sys.exit("This is no report of an article that was judged: bnlab study report ID --json writes one.")
    cost, versions = report["cost"], report["versions"]
    return {
        "scale": report["scale"],
        "judged_at": report["judged_at"],
        "versions": {name: versions[name] for name in sorted(versions)},
        "cost": {**{key: cost[key] for key in ("runs", "diverged", "missing")}, "seconds": round(cost["seconds"])},
        "claims": {part["claim"]["name"]: _part(part) for part in report["parts"]},
        "left_out": report["left_out"],
    }


def text_of(data: Mapping[str, Any]) -> str:
    """As it is stored: the same data give the same text."""
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def page(data: Mapping[str, Any], by_hand: Mapping[str, Any]) -> str:
    """The text of the page."""
    rows = list(_rows(data, by_hand))
    sections = [_HEAD, _run(data, rows), *_against(rows), *_verdicts(rows), *_costs(data)]
    sections += ["## Claim by claim"]
    for name in CLAIMS:
        sections += _claim(name, data, [row for row in rows if row["claim"] == name])
    return "\n\n".join([*sections, *_changes(by_hand["changes"])]) + "\n"


def _part(part: Mapping[str, Any]) -> Json:
    return {
        "fingerprint": part["fingerprint"],
        "seconds": round(part["cost"]["seconds"], 1),
        "seeds": len(part["seeds"]["judging"]),
        **{key: part["cost"][key] for key in ("runs", "diverged", "missing")},
        "questions": [_question(verdict) for verdict in part["verdicts"]],
    }


def _question(verdict: Mapping[str, Any]) -> Json:
    estimated = verdict.get("estimated") or {}
    p = (estimated.get("tests") or verdict.get("counted") or {}).get("decision_holm")
    shown = {key: _rounded(value) for key, value in (estimated.get("shown") or {}).items()}
    failed = [guard["name"] for guard in verdict["guards"] if not guard["passed"]]
    about = {key: verdict[key] for key in ("name", "outcome", "label", "n", "sentence")}
    whole = {**about, "asks": verdict["words"]["question"], "p": _rounded(p), "shown": shown, "failed": failed}
    return {key: value for key, value in whole.items() if value not in (None, [], {})}


def _rounded(value: Any) -> Any:
    """As sentences have it."""
    return float(written(value)) if isinstance(value, float) and math.isfinite(value) else value


def _rows(data: Mapping[str, Any], by_hand: Mapping[str, Any]) -> Iterator[Json]:
    """Every question with its claim and how it stands to the article, in the order of the article."""
    for claim in [*CLAIMS, *sorted(data["claims"].keys() - CLAIMS.keys())]:
        for question in data["claims"].get(claim, {}).get("questions", ()):
            yield {"claim": claim, "stance": _stance(claim, question, by_hand), **question}


def _stance(claim: str, question: Mapping[str, Any], by_hand: Mapping[str, Any]) -> str:
    if question["outcome"] == "inconclusive":
        return "open"
    holds = question["outcome"] == "holds"
    if question["name"] in by_hand["aside"].get(claim, ()):
        return "aside"
    if question["name"] in by_hand["counter"].get(claim, ()):
        return "against" if holds else "counter"
    return "with" if holds else "against"


def _run(data: Mapping[str, Any], rows: Sequence[Json]) -> str:
    cost, counts = data["cost"], Counter(row["stance"] for row in rows)
    asked = f"{len(rows)} questions in {len(data['claims'])} claims"
    said = (
        f"{counts['with']} came out as the article says, **{counts['against']} against it**, {counts['open']} stayed "
        f"open; {counts['counter']} asked a counter-claim that fails, and of {counts['aside']} the article says nothing"
    )
    versions = ", ".join(
        f"{name} {', '.join(told) if isinstance(told, list) else told}" for name, told in data["versions"].items()
    )
    ran = (
        f"Scale `{data['scale']}`, judged {data['judged_at']}. {cost['runs']:,} experiments took trainers "
        f"{_duration(cost['seconds'])}; {cost['diverged']} diverged, {cost['missing']} have no result. "
        f"Versions: {versions}."
    )
    tiny = "**Scale `tiny` shows that all of it runs. It decides nothing: do not quote these verdicts.** "
    return f"{tiny if data['scale'] == 'tiny' else ''}Of {asked}, {said}.\n\n{ran}"


def _against(rows: Sequence[Json]) -> Iterator[str]:
    yield "## Against the article's wording"
    found = [row for row in rows if row["stance"] == "against"]
    if not found:
        yield "No verdict is."
    for name in dict.fromkeys(row["claim"] for row in found):
        listed = "\n".join(f"- {_told(row)}" for row in found if row["claim"] == name)
        yield f"{_titled(name)}. The article: {_escaped(CLAIMS[name].says) if name in CLAIMS else '?'}\n\n{listed}"


def _verdicts(rows: Sequence[Json]) -> Iterator[str]:
    yield "## Verdicts"
    yield (
        "Effects are oriented so that more is better for what is asked, with 95 % intervals; p is that of the decision "
        "after Holm's correction over all questions. A failed guard leaves a question open, whatever the interval says."
    )
    lines = ["| Claim | Question | Verdict | Article | Effect | p | n | Failed guards |", f"|{' --- |' * 8}"]
    for row in rows:
        failed = ", ".join(f"`{name}`" for name in row.get("failed", ())) or "-"
        p = written(row["p"]) if "p" in row else "-"
        cells = (_number(row["claim"]), f"`{row['name']}`", _outcome(row), _STANCES[row["stance"]], _effect(row))
        lines.append(f"| {' | '.join((*cells, p, str(row['n']), failed))} |")
    yield "\n".join(lines)


def _costs(data: Mapping[str, Any]) -> Iterator[str]:
    yield "## What it cost"
    yield "Time of trainers, all of them together, tuning included; on several cores nobody waits as long."
    lines = [
        "| Claim | Seeds that judge | Experiments | Diverged | Missing | Time |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in (*CLAIMS, *sorted(data["claims"].keys() - CLAIMS.keys())):
        if (one := data["claims"].get(name)) is not None:
            counts = " | ".join(f"{one[key]:,}" for key in ("seeds", "runs", "diverged", "missing"))
            lines.append(f"| {_number(name)} `{name}` | {counts} | {_duration(one['seconds'])} |")
    yield "\n".join(lines)


def _claim(name: str, data: Mapping[str, Any], rows: Sequence[Json]) -> Iterator[str]:
    claim = CLAIMS[name]
    yield f"### {claim.number} {name}"
    yield f"{_escaped(claim.says)} ({_escaped(claim.source)})"
    judged = data["claims"].get(name)
    if judged is None or not rows:
        yield "Not judged in this run." if has_scale(claim, data["scale"]) else f"Has no scale `{data['scale']}`."
        return
    if has_scale(claim, data["scale"]) and fingerprint_of(claim.design(data["scale"])) != judged["fingerprint"]:
        yield "**The design has changed since this run**: see the end of the page."
    yield "\n".join(f"- {_told(row)}" for row in rows)


def _changes(changes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Changes of designs after the first run"
    yield "Results of the claim could have been seen before these; the reason has to stand without them."
    yield _table_of_changes([one for one in changes if one["after_first_run"]])
    yield "Changed before any run of the claim:"
    yield _table_of_changes([one for one in changes if not one["after_first_run"]])


def _table_of_changes(changes: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        f"| {one['date']} | {', '.join(one['claims'])} | {_escaped(one['change'])} | {_escaped(one['reason'])} |"
        for one in changes
    ]
    return "\n".join(["| Date | Claim | Change | Reason |", "| --- | --- | --- | --- |", *rows])


def _told(row: Mapping[str, Any]) -> str:
    """A question, and its answer as one would read it out."""
    stance = {"against": "**against the article**", "with": "as the article says"}.get(row["stance"])
    noted = stance or {"counter": "the counter-claim fails", "open": "open", "aside": "beside the claim"}[row["stance"]]
    return f"`{row['name']}` ({noted}): {_escaped(row['asks'])} {_escaped(row['sentence'])}"


def _titled(name: str) -> str:
    return f"**{_number(name)}** `{name}`"


def _number(name: str) -> str:
    return CLAIMS[name].number if name in CLAIMS else "?"


def _outcome(row: Mapping[str, Any]) -> str:
    label = row.get("label", "").replace("_", " ")
    return f"{_SAID[row['outcome']]}{f' ({label})' if label else ''}"


def _effect(row: Mapping[str, Any]) -> str:
    shown = row.get("shown")
    if not shown:
        return "-"
    effect, low, high = (written(shown[key]) for key in ("effect", "low", "high"))
    return f"{effect} [{low}, {high}] {shown['unit']}".strip()


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    main()
