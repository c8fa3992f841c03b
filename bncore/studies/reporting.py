"""A study as a report: all that a reader needs to judge how far to believe it, verdict first, as one JSON document.

Invariant: made of stored documents alone. The same study gives the same report, to the byte, whenever it is asked
for; no number in it is estimated here, and none is left out because it does not please.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bncore.comparison.differing import differences, where
from bncore.spec.merging import merged
from bncore.studies.claim import Claim
from bncore.studies.claims import CLAIMS

Document = dict[str, Any]
STANDINGS = ("contradicted", "does_not_hold", "inconclusive", "holds")
"""What a report puts first, in this order: an outcome, or that the effect is the other way round."""
_CONFIRMED = ("confirm", "extend")
_SPARE = frozenset({"name", "tags"})


def document(study: Mapping[str, Any]) -> Document:
    """The report of a study, or of an article, which has the reports of its `parts`.

    Args:
        study: plain JSON. Of a study: `id`, `name`, `claim` (by its name, or as `described`; None of a comparison),
            `scale`, `asked`, `design` and `fingerprint`, `number` and `judged_at` (seconds) of the verdicts,
            `verdicts` (`verdict.document` of each), `taken`, `runs` (rows of `results`, with `experiment`, `seconds`,
            `device`, `torch` and `missing`), `facts`, and `series`: of each run that was kept `key`, `arm`, `seed`,
            `steps`, `values`. Of an article: `id`, `name`, `scale`, and as `parts` its studies. What is not there is
            left out.
    """
    if "parts" in study:
        return _article(study)
    verdicts = [_placed(verdict) for verdict in study.get("verdicts") or []]
    runs, design = list(study.get("runs") or []), study.get("design") or {}
    return {
        "kind": "study",
        **{key: study.get(key) for key in ("id", "name", "scale", "fingerprint", "number")},
        "claim": _claim(study.get("claim"), verdicts),
        "judged_at": _instant(study.get("judged_at")),
        "standing": standing(verdicts),
        "summary": _summary(verdicts),
        "verdicts": verdicts,
        "looks": dict(study.get("taken") or {}),
        "places": list(_places(runs)),
        "arms": list(_arms(design)),
        "missing": [_missing(run) for run in runs if run.get("missing")],
        "seeds": _seeds(design, runs),
        "cost": _cost(runs),
        "versions": _versions(study, runs),
        "design": design,
        "asked": study.get("asked"),
        "runs": runs,
        "series": list(study.get("series") or []),
    }


def described(claim: Claim) -> Document:
    """A claim as it is listed, and as a report says it: what it says, where, and what others say of it."""
    literature = [{"where": each.where, "says": each.says, "agrees": each.agrees} for each in claim.literature]
    about = {key: getattr(claim, key) for key in ("name", "number", "says", "source")}
    return {**about, "literature": literature}


def standing(verdicts: Sequence[Mapping[str, Any]]) -> str | None:
    """The first of `STANDINGS` that any verdict has; None of none."""
    there = [_standing(verdict) for verdict in verdicts]
    return min(there, key=STANDINGS.index, default=None)


def _article(study: Mapping[str, Any]) -> Document:
    parts = [document(part) for part in study["parts"]]
    # Sorted is stable: claims of one standing stay in the order of the article.
    parts = sorted(parts, key=lambda part: STANDINGS.index(part["standing"] or "inconclusive"))
    every = [verdict for part in parts for verdict in part["verdicts"]]
    runs = [run for part in parts for run in part["runs"]]
    return {
        "kind": "article",
        **{key: study.get(key) for key in ("id", "name", "scale", "number")},
        "judged_at": _instant(study.get("judged_at")),
        "standing": standing(every),
        "summary": _summary(every),
        "counts": {name: sum(_standing(verdict) == name for verdict in every) for name in STANDINGS},
        "cost": _cost(runs),
        "versions": _versions(study, runs),
        "parts": parts,
    }


def _placed(verdict: Mapping[str, Any]) -> Document:
    return {**verdict, "standing": _standing(verdict)}


def _standing(verdict: Mapping[str, Any]) -> str:
    return "contradicted" if verdict.get("label") == "contradicted" else str(verdict["outcome"])


def _summary(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """In a sentence: how many questions came out how."""
    if not verdicts:
        return "Nothing has been judged yet."
    if len(verdicts) == 1:
        return str(verdicts[0]["sentence"])
    counts = Counter(map(_standing, verdicts))
    words = {
        "contradicted": ("is the other way round", "are the other way round"),
        "does_not_hold": ("does not hold", "do not hold"),
        "inconclusive": ("stays open", "stay open"),
        "holds": ("holds", "hold"),
    }
    said = [f"{counts[name]} {words[name][counts[name] != 1]}" for name in STANDINGS if counts[name]]
    return f"Of {len(verdicts)} questions {', '.join(said)}."


def _claim(claim: Any, verdicts: Sequence[Mapping[str, Any]]) -> Document | None:
    """With what its literature says of what came out."""
    if isinstance(claim, str):
        claim = described(CLAIMS[claim]) if claim in CLAIMS else {"name": claim, "literature": []}
    if claim is None:
        return None
    found = standing(verdicts)
    literature = [{**each, "came_out": _came_out(each["agrees"], found)} for each in claim.get("literature") or []]
    return {**claim, "literature": literature}


def _came_out(agrees: bool, found: str | None) -> str:
    """Whether what was found is what the source says: where questions came out differently, the least is taken."""
    if found in (None, "inconclusive"):
        return "open"
    return "as it says" if agrees == (found == "holds") else "otherwise"


def _arms(design: Mapping[str, Any]) -> Iterator[Document]:
    """Their specs, and where these differ from that of the first."""
    specs = [_spec(design, arm) for arm in design.get("arms") or []]
    for arm, spec in zip(design.get("arms") or [], specs, strict=True):
        paths = differences([specs[0], spec]) if spec is not specs[0] else []
        paths = [path for path in paths if path.partition(".")[0] not in _SPARE]
        changes = {path: [where(one, [path]).get(path) for one in (specs[0], spec)] for path in paths}
        yield {"name": arm["name"], "words": arm["words"], "differs": changes, "spec": spec}


def _spec(design: Mapping[str, Any], arm: Mapping[str, Any]) -> Document:
    if arm.get("spec") is not None:
        return dict(arm["spec"])
    found: Document = merged(dict(design.get("template") or {}), dict(arm.get("patch") or {}))
    return found


def _places(runs: Sequence[Mapping[str, Any]]) -> Iterator[Document]:
    """Of each arm at each setting, tuned and judged apart, what its runs came to."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        setting = ", ".join(f"{path} = {value}" for path, value in sorted(run.get("setting", {}).items()))
        groups.setdefault((_purpose(run), run["arm"], setting), []).append(run)
    for (purpose, arm, setting), members in groups.items():
        keys = list(dict.fromkeys(key for run in members for key in run["metrics"]))
        yield {
            "purpose": purpose,
            "arm": arm,
            "setting": setting,
            "runs": len(members),
            "missing": sum(bool(run.get("missing")) for run in members),
            "diverged": sum(bool(run.get("diverged")) for run in members),
            "metrics": {key: _moments(key, members) for key in keys},
        }


def _purpose(run: Mapping[str, Any]) -> str:
    return "judging" if str(run.get("stage", "")).startswith(_CONFIRMED) else "tuning"


def _moments(key: str, runs: Sequence[Mapping[str, Any]]) -> Document:
    """Mean and deviation (n - 1) of those that have the number; `never` counts events that did not come."""
    there = [run["metrics"][key] for run in runs if key in run["metrics"] and not run.get("diverged")]
    values = [float(value) for value in there if value is not None and math.isfinite(value)]
    n = len(values)
    mean = math.fsum(values) / n if n else None
    sd = None
    if mean is not None and n > 1:
        sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return {"n": n, "mean": mean, "sd": sd, "never": sum(value is None for value in there)}


def _missing(run: Mapping[str, Any]) -> Document:
    return {key: run.get(key) for key in ("experiment", "arm", "setting", "seed", "stage", "missing")}


def _seeds(design: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Document:
    used = {
        purpose: sorted({run["seed"] for run in runs if _purpose(run) == purpose}) for purpose in ("tuning", "judging")
    }
    return {**used, "planned": design.get("seeds"), "most": design.get("most"), "added": design.get("extensions", [])}


def _cost(runs: Sequence[Mapping[str, Any]]) -> Document:
    """Seconds that trainers took, all together: not those that anybody waited."""
    seconds = {
        purpose: math.fsum(run.get("seconds") or 0.0 for run in runs if _purpose(run) == purpose)
        for purpose in ("tuning", "judging")
    }
    return {
        "seconds": math.fsum(seconds.values()),
        "seconds_of": seconds,
        "runs": len(runs),
        "diverged": sum(bool(run.get("diverged")) for run in runs),
        "missing": sum(bool(run.get("missing")) for run in runs),
    }


def _versions(study: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Document:
    told = (study.get("facts") or {}).get("versions") or {}
    seen = {key: sorted({str(run[key]) for run in runs if run.get(key)}) for key in ("torch", "device")}
    return {**told, **{key: values for key, values in seen.items() if values}}


def _instant(seconds: Any) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
