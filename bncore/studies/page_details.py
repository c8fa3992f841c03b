"""What of a report one looks up: arms, settings, runs, cost, versions, and the design to the last value."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bncore.studies.markup import Markup, breakable, element, table
from bncore.studies.sentences import written

Report = Mapping[str, Any]
_MOST_RUNS = 400
"""That a page lists; the report in JSON has all."""


def details(report: Report, level: str) -> Iterator[Markup]:
    """In the order in which a reader doubts."""
    yield element(level, "What was compared")
    yield _arms(report)
    yield from (_spec(arm) for arm in report["arms"])
    if report["places"]:
        yield element(level, "What the runs came to")
        yield from (_places(report, purpose) for purpose in ("judging", "tuning") if _has(report, purpose))
        yield _runs(report)
    if report["missing"]:
        yield _missing(report)
    yield element(level, "Seeds, cost, versions")
    yield _cost(report)
    yield element("details", element("summary", "Design"), _json(report["design"]))


def warnings(report: Report) -> Markup | None:
    """What speaks against believing what came out, whatever it is; no guard, and no verdict hangs on it."""
    if not report["warnings"]:
        return None
    rows = [(_whose(one), one["pointer"], one["detail"]) for one in report["warnings"]]
    about = "What speaks against believing it: warnings of the specs, of which no verdict takes notice"
    return table(about, ("arm", "field", "warning"), rows)


def _whose(one: Report) -> str:
    """The first place that it is of, and of how many."""
    at = _unbroken(", ".join(f"{path} = {_short(value)}" for path, value in one["setting"].items()))
    many = f" and {one['places'] - 1} more of {one['of']}" if one["places"] > 1 else ""
    return f"{one['arm']}{f' at {at}' if at else ''}{many}"


def shares(counted: Report) -> Markup:
    """How many networks train at each setting, and what joins them to one verdict."""
    rows = [
        (one["setting"], one["arm"], f"{one['trained']} of {one['seeds']}", _span(one["interval"]))
        for one in counted["shares"]
    ]
    decided = [f"p of the decision, in all looks {counted['decision']:.2g}"]
    decided += (
        [] if counted["decision_holm"] is None else [f"among all questions {counted['decision_holm']:.2g} (Holm)"]
    )
    looks = f"looks taken, in seeds: {', '.join(map(str, counted['looks']))}, of at most {counted['most']}"
    about = "Networks that train; shares with intervals that hold for all of them and all looks together (95 %)"
    head = ("setting", "arm", "train", "share")
    return element("div", table(about, head, rows), element("p", "; ".join((*decided, looks)), class_="faint"))


def _span(interval: Report) -> str:
    return f"{interval['low']:.0%} to {interval['high']:.0%}"


def _arms(report: Report) -> Markup:
    about = "Arms, and where each differs from the first"
    if all(arm["words"] == arm["name"] for arm in report["arms"]):
        return table(about, ("arm", "differs in"), [(arm["name"], _changes(arm["differs"])) for arm in report["arms"]])
    rows = [(arm["name"], arm["words"], _changes(arm["differs"])) for arm in report["arms"]]
    return table(about, ("arm", "is", "differs in"), rows)


def _changes(differs: Mapping[str, Any]) -> Any:
    if not differs:
        return ""
    said = [f"{path}: {_short(before)} → {_short(after)}" for path, (before, after) in differs.items()]
    return element("ul", *(element("li", each) for each in said)) if len(said) > 1 else said[0]


def _spec(arm: Report) -> Markup:
    return element("details", element("summary", f"Spec of {arm['name']}"), _json(arm["spec"]))


def _places(report: Report, purpose: str) -> Markup:
    of_purpose = [place for place in report["places"] if place["purpose"] == purpose]
    keys = list(dict.fromkeys(key for place in of_purpose for key in place["metrics"]))
    counted = ("arm", "setting", "runs", "diverged", "missing")
    head = (*counted, *map(breakable, keys))
    rows = [
        (
            place["arm"],
            _unbroken(place["setting"]),
            *(place[each] for each in counted[2:]),
            *(_moments(place["metrics"].get(key)) for key in keys),
        )
        for place in of_purpose
    ]
    what = {"judging": "Runs that judge", "tuning": "Runs that chose the settings"}[purpose]
    made = table(f"{what}: mean ± standard deviation over seeds", head, rows, numbers=range(2, len(head)))
    return made if purpose == "judging" else element("details", element("summary", what), made)


def _moments(found: Report | None) -> str:
    if found is None:
        return ""
    never = f"{found['never']} never" if found["never"] else ""
    if found["mean"] is None:
        return never
    spread = f" ± {written(found['sd'])}" if found["sd"] is not None else ""
    return f"{written(found['mean'])}{spread}" + (f" ({never})" if never else "")


def _runs(report: Report) -> Markup:
    runs = report["runs"][:_MOST_RUNS]
    keys = list(dict.fromkeys(key for run in runs for key in run["metrics"]))
    head = ("experiment", "stage", "arm", "setting", "seed", "seconds", *map(breakable, keys))
    rows = [_run(run, keys) for run in runs]
    cut = f", the first {_MOST_RUNS} of {len(report['runs'])}" if len(report["runs"]) > _MOST_RUNS else ""
    shown = table(f"Every run{cut}", head, rows, numbers=range(4, len(head)))
    return element("details", element("summary", f"Every run ({len(report['runs'])})"), shown)


def _run(run: Report, keys: list[str]) -> tuple[Any, ...]:
    setting = _unbroken(", ".join(f"{path} = {_short(value)}" for path, value in run.get("setting", {}).items()))
    seconds = "" if run.get("seconds") is None else written(run["seconds"])
    said = [_value(run, key) for key in keys]
    return (run.get("experiment") or "", run.get("stage", ""), run["arm"], setting, run["seed"], seconds, *said)


def _unbroken(setting: str) -> str:
    """A value stays on the line of its path."""
    return setting.replace(" = ", "\u00a0=\u00a0")


def _value(run: Report, key: str) -> str:
    if run.get("missing"):
        return str(run["missing"])
    if run.get("diverged"):
        return "diverged"
    value = run["metrics"].get(key)
    if value is None:
        return "never" if key in run["metrics"] else ""
    return written(value) if isinstance(value, int | float) else str(value)


def _missing(report: Report) -> Markup:
    rows = [
        (one["experiment"] or "", one["arm"], one["seed"], one["stage"], one["missing"]) for one in report["missing"]
    ]
    return table(
        "Runs without a result", ("experiment", "arm", "seed", "stage", "why"), rows[:_MOST_RUNS], numbers=(2,)
    )


def _cost(report: Report) -> Markup:
    cost, seeds = report["cost"], report["seeds"]
    spent = ", ".join(f"{name} {_duration(value)}" for name, value in cost["seconds_of"].items() if value)
    rows = [
        ("runs", f"{cost['runs']}, of which {cost['diverged']} diverged and {cost['missing']} have no result"),
        ("time of the trainers", f"{_duration(cost['seconds'])}{f' ({spent})' if spent else ''}"),
        ("seeds that judge", _spans(seeds["judging"])),
        ("seeds that chose settings", _spans(seeds["tuning"])),
        ("may be extended to", seeds["most"]),
        ("fingerprint of the design", element("code", report.get("fingerprint") or "")),
    ]
    rows += [
        (name, ", ".join(value) if isinstance(value, list) else value) for name, value in report["versions"].items()
    ]
    return table("How it was run", ("what", "value"), [row for row in rows if row[1] not in (None, "")])


def _has(report: Report, purpose: str) -> bool:
    return any(place["purpose"] == purpose for place in report["places"])


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{written(seconds)} s"
    return f"{written(seconds / 60)} min" if seconds < 7200 else f"{written(seconds / 3600)} h"


def _spans(seeds: list[int]) -> str:
    """0-9, 12 for 0 ... 9 and 12."""
    spans: list[list[int]] = []
    for seed in seeds:
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."


def _json(value: Any) -> Markup:
    return element("pre", json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
