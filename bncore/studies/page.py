"""A report as one page that needs nothing else: no network, no program, light and dark, on paper.

Invariant: a function of the report and of how figures are drawn; what anybody has named is text in it, and its policy
lets no program run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from bncore.studies.figuring import Draw, course, effects, figure_style, readable, seeds
from bncore.studies.markup import Markup, element, table
from bncore.studies.page_details import details, shares, warnings
from bncore.studies.page_style import STYLE
from bncore.studies.reporting import STANDINGS
from bncore.studies.sentences import written

Report = Mapping[str, Any]
_SAID = {
    "holds": "● holds",
    "does_not_hold": "■ does not hold",
    "contradicted": "▼ is the other way round",
    "inconclusive": "◆ stays open",
}
_LABELS = {"equivalent": "no difference that matters", "control_failed": "a control failed"}
_CAME_OUT = {
    "as it says": "and so it came out",
    "otherwise": "and here it came out otherwise",
    "open": "here it is open",
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_INTERVAL = "95\u00a0% interval"


def page(document: Report, draw: Draw) -> str:
    """The report of a study or an article (`reporting.document`) as HTML.

    Args:
        draw: makes SVG of a figure, as `bncore.figures.drawing.drawn` does.
    """
    body = _article(document, draw) if document["kind"] == "article" else _study(document, draw)
    head = (
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"{_title(document)} - BNLab"),
        Markup(f"<style>{figure_style()}{STYLE}</style>"),
    )
    whole = element("html", element("head", *head), element("body", *body, _footer(document)), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def _study(report: Report, draw: Draw) -> Iterator[Markup]:
    claim = report.get("claim") or {}
    name = report.get("name") if claim else None
    over = [claim.get("number"), claim.get("name"), name, _scale(report), report.get("judged_at")]
    yield element(
        "header",
        element("p", " · ".join(each for each in over if each), class_="over"),
        element("h1", _title(report)),
        element("p", report["summary"]) if len(report["verdicts"]) != 1 else None,
    )
    yield element("main", *_answers(report, draw, "h2"), *_literature(report, "h2"), *details(report, "h2"))


def _article(article: Report, draw: Draw) -> Iterator[Markup]:
    over = [_scale(article), article.get("judged_at")]
    yield element(
        "header",
        element("p", " · ".join(each for each in over if each), class_="over"),
        element("h1", _title(article)),
        element("p", article["summary"], class_="lead"),
    )
    judged = [(part, verdict) for part in article["parts"] for verdict in part["verdicts"]]
    judged.sort(key=lambda each: STANDINGS.index(each[1]["standing"]))
    head = ("claim", "question", "verdict", f"effect ({_INTERVAL})", "seeds")
    rows = [
        (_link(part), verdict["words"]["question"], _standing(verdict["standing"]), _effect(verdict), verdict["n"])
        for part, verdict in judged
    ]
    yield table("All questions, contradictions first", head, rows, numbers=(4,))
    if article["left_out"]:
        yield element("p", f"Without a verdict, and left out: {', '.join(article['left_out'])}.", class_="faint")
    yield element("main", *(_part(part, draw) for part in article["parts"]))


def _part(part: Report, draw: Draw) -> Markup:
    claim = part.get("claim") or {}
    return element(
        "section",
        element("h2", f"{claim.get('number', '')} {_title(part)}".strip()),
        element("p", f"{claim.get('name', '')} · {claim.get('source', '')}".strip(" ·"), class_="over"),
        *_answers(part, draw, "h3"),
        element("details", element("summary", "Literature"), *_literature(part, "h3")),
        element("details", element("summary", "How it was found"), *details(part, "h3")),
        id=_anchor(part),
    )


def _answers(report: Report, draw: Draw, level: str) -> Iterator[Markup]:
    """Verdict first: what came out of each question, then what it looks like."""
    order = sorted(report["verdicts"], key=lambda verdict: STANDINGS.index(verdict["standing"]))
    is_alone = level == "h2"
    yield from (_card(verdict, draw, is_alone=is_alone) for verdict in order)
    yield warnings(report) or Markup()
    # An article has one picture a claim; the others are those of its own report.
    pictures = (*effects(report, draw), *(course(report, draw) if is_alone else ()))
    yield element("div", *pictures, class_="figures")
    head = ("question", "verdict", f"effect ({_INTERVAL})", "p (Holm)", "seeds")
    rows = [
        (readable(verdict["name"]), _standing(verdict["standing"]), _effect(verdict), _holm(verdict), verdict["n"])
        for verdict in order
    ]
    if len(rows) > 1 and is_alone:
        yield table("All questions", head, rows, numbers=(3, 4))


def _card(verdict: Report, draw: Draw, *, is_alone: bool) -> Markup:
    label = _LABELS.get(verdict.get("label") or "")
    alone = verdict.get("alone")
    return element(
        "article",
        element("p", readable(verdict["name"]), class_="over"),
        element("h3", verdict["words"]["question"]),
        element("p", _standing(verdict["standing"]), f" ({label})" if label else None),
        element("p", verdict["sentence"]),
        element("p", "By itself, without the other questions of this report, it ", _standing(alone)) if alone else None,
        element(
            "details",
            element("summary", "Numbers, guards, seeds"),
            _numbers(verdict),
            _times(verdict),
            _guards(verdict),
            seeds(verdict, draw) if is_alone else None,
        ),
        class_=f"card is-{verdict['standing']}",
    )


def _numbers(verdict: Report) -> Markup | None:
    estimated = verdict.get("estimated")
    if verdict.get("counted"):
        return shares(verdict["counted"])
    if not estimated:
        rows = [(name, written(value) if value is not None else "none") for name, value in verdict["measured"].items()]
        return table("What was measured", ("quantity", "value"), rows, numbers=(1,)) if rows else None
    tests = estimated["tests"]
    rows = [
        ("effect", _effect(verdict)),
        ("pairs", f"{verdict['n']}, of at most {estimated['most']}"),
        ("p of the decision, in all looks", _p(tests["decision"])),
        ("the same among all questions (Holm)", _p(tests["decision_holm"])),
        ("p by flipping signs", _p(tests["sign_flip"])),
        ("power to decide, one margin away", "" if estimated["power"] is None else f"{estimated['power']:.0%}"),
        ("looks taken, in pairs", ", ".join(map(str, estimated["looks"]))),
    ]
    rows += [("seeds more that would probably decide", estimated["extra_seeds"])] if estimated["extra_seeds"] else []
    rows += [(name, written(value)) for name, value in verdict["measured"].items() if value is not None]
    return table("Numbers", ("quantity", "value"), rows)


def _times(verdict: Report) -> Markup | None:
    rows = [
        (arm, f"{of['reached']} of {of['seeds']}", "none" if of["median"] is None else written(of["median"]))
        for arm, of in (verdict.get("times") or {}).items()
    ]
    return table("When the target was reached", ("arm", "seeds", "median (Kaplan-Meier)"), rows) if rows else None


def _guards(verdict: Report) -> Markup:
    rows = [
        (guard["name"].replace("_", " "), "passed" if guard["passed"] else "failed", guard["sentence"])
        for guard in verdict["guards"]
    ]
    return table("Guards: whether the experiments could answer at all", ("guard", "", "found"), rows)


def _literature(report: Report, level: str) -> Iterator[Markup]:
    claim = report.get("claim") or {}
    if not claim.get("literature"):
        return
    yield element(level, "What the literature says")
    yield element("p", f"The claim is that of {claim['source']}: {claim['says']}") if claim.get("source") else Markup()
    rows = [
        (each["where"], each["says"], "agrees" if each["agrees"] else "disagrees", _CAME_OUT[each["came_out"]])
        for each in claim["literature"]
    ]
    yield table("Publications", ("where", "says", "on the claim", "here"), rows)


def _standing(name: str) -> Markup:
    return element("span", _SAID[name], class_=f"standing {name}")


def _effect(verdict: Report) -> str:
    estimated = verdict.get("estimated")
    if not estimated:
        return ""
    shown = estimated["shown"]
    effect, low, high = (written(shown[name]) if shown[name] is not None else "?" for name in ("effect", "low", "high"))
    unit = shown["unit"].removesuffix("s") if effect == "1" and shown["unit"] != "times" else shown["unit"]
    # On one line, wherever it stands.
    return (f"{effect} {unit}".strip() + f" ({low} to {high})").replace(" ", "\u00a0")


def _holm(verdict: Report) -> str:
    estimated, counted = verdict.get("estimated"), verdict.get("counted")
    tests = estimated["tests"] if estimated else counted
    return _p(tests["decision_holm"]) if tests else ""


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _link(part: Report) -> Markup:
    claim = part.get("claim") or {}
    said = f"{claim.get('number') or ''} {claim.get('name') or part.get('name') or ''}".strip()
    return element("a", said, href=f"#{_anchor(part)}")


def _anchor(part: Report) -> str:
    return str((part.get("claim") or {}).get("name") or part.get("id"))


def _title(report: Report) -> str:
    claim = report.get("claim") or {}
    usual = "The article on batch normalization, claim by claim" if report["kind"] == "article" else "A study"
    return str(claim.get("says") or report.get("name") or usual)


def _scale(report: Report) -> str | None:
    said = f"scale {report['scale']}" if report.get("scale") else None
    return f"{said}: shows that it runs, and decides nothing" if report.get("scale") == "tiny" else said


def _footer(report: Report) -> Markup:
    said = f"Study {report['id']}, made of what BNLab has stored of it." if report.get("id") else ""
    return element("footer", element("p", said, class_="faint"))
