"""A study as a report: all that a reader needs to judge how far to believe it, verdict first, as one JSON document.

Invariant: made of stored documents alone. The same study gives the same report, to the byte, whenever it is asked
for; no number in it is estimated here, and none is left out because it does not please.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bncore import moments
from bncore.comparison.meant import told_apart
from bncore.spec.merging import merged
from bncore.studies import cautioned
from bncore.studies.claim import Claim
from bncore.studies.claims import CLAIMS

Document = dict[str, Any]
STANDINGS = ("contradicted", "does_not_hold", "inconclusive", "holds")
"""What a report puts first, in this order: an outcome, or that the effect is the other way round."""
_CONFIRMED = ("confirm", "extend")
_SPARE = frozenset({"name", "tags"})


def document(stored: Mapping[str, Any]) -> Document:
    """The report of a study, or of an article, which has the reports of its `parts`.

    Args:
        stored: plain JSON: `study` as the service shows it (`id`, `name`, `scale`, `spec`), `claim` (its name, or as
            `described`; None of a comparison), `design`, `fingerprint`, and of what was judged `number`, `judged_at`
            (seconds), `verdicts` (`verdict.document` of each), `taken`, `runs` (rows of `results`, with `experiment`,
            `seconds`, `device`, `torch`, `missing`) and `facts`; and `series`, of runs that judge: `key`, `arm`,
            `setting`, `seed`, `steps`, `values`. Of an article `parts`, the same of each of its studies, and verdicts
            that say in `study` whose they are, corrected for all questions together. What is not there is left out.
    """
    if stored.get("parts"):
        return _article(stored)
    return _study(stored, stored.get("verdicts") or [])


def described(claim: Claim) -> Document:
    """A claim as it is listed, and as a report says it: what it says, where, and what others say of it."""
    literature = [asdict(each) for each in claim.literature]
    about = {key: getattr(claim, key) for key in ("name", "number", "says", "source")}
    return {**about, "literature": literature}


def standing(verdicts: Sequence[Mapping[str, Any]]) -> str | None:
    """The first of `STANDINGS` that any verdict has; None of none."""
    there = [_standing(verdict) for verdict in verdicts]
    return min(there, key=STANDINGS.index, default=None)


def _study(stored: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> Document:
    # In an article questions are called by their claims, too, each of which has a section of its own.
    named = [{**verdict, "name": verdict["name"].rpartition("/")[2]} for verdict in judged]
    verdicts = [{**verdict, "standing": _standing(verdict)} for verdict in named]
    runs, design = list(stored.get("runs") or []), stored.get("design") or {}
    return {
        "kind": "study",
        **_identity(stored),
        "fingerprint": stored.get("fingerprint"),
        "claim": _claim(stored.get("claim"), verdicts),
        "standing": standing(verdicts),
        "summary": _summary(verdicts),
        "verdicts": verdicts,
        "warnings": cautioned.documents(_specs(design), runs, _beside_the_point(design)),
        "looks": dict(stored.get("taken") or {}),
        "places": list(_places(runs)),
        "arms": list(_arms(design)),
        "missing": [_missing(run) for run in runs if run.get("missing")],
        "seeds": _seeds(design, runs),
        "cost": _cost(runs),
        "versions": _versions(stored, runs),
        "design": design,
        "runs": runs,
        "series": list(stored.get("series") or []),
    }


def _article(stored: Mapping[str, Any]) -> Document:
    of = {part["study"]["id"]: part for part in stored["parts"]}
    judged = {study_id: [each for each in stored["verdicts"] if each["study"] == study_id] for study_id in of}
    parts = [_study(part, judged[study_id]) for study_id, part in of.items()]
    every = [verdict for part in parts for verdict in part["verdicts"]]
    # Sorted is stable: claims of one standing stay in the order of the article.
    parts = sorted(parts, key=lambda part: STANDINGS.index(part["standing"] or "inconclusive"))
    runs = [run for part in parts for run in part["runs"]]
    return {
        "kind": "article",
        **_identity(stored),
        "standing": standing(every),
        "summary": _summary(every),
        "counts": {name: sum(verdict["standing"] == name for verdict in every) for name in STANDINGS},
        "left_out": (stored.get("facts") or {}).get("left_out") or [],
        "cost": _cost(runs),
        "versions": _versions(stored, runs),
        "parts": parts,
    }


def _identity(stored: Mapping[str, Any]) -> Document:
    shown = stored["study"]
    about = {key: shown.get(key) for key in ("id", "name", "scale")}
    when = {"number": stored.get("number"), "judged_at": _instant(stored.get("judged_at"))}
    return {**about, "asked": shown.get("spec"), **when}


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
    literature = [{**each, "came_out": _came_out(each, verdicts)} for each in claim.get("literature") or []]
    return {**claim, "literature": literature}


def _came_out(source: Document, verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Whether what was found is what the source says: of several questions that came out differently, the least."""
    found = standing([each for each in verdicts if _speaks_of(source.get("question"), each["name"])])
    if found in (None, "inconclusive"):
        return "open"
    return "as it says" if source["agrees"] == (found == "holds") else "otherwise"


def _speaks_of(asked: str | None, question: str) -> bool:
    return asked is None or f"{question}-".startswith(f"{asked}-")


def _arms(design: Mapping[str, Any]) -> Iterator[Document]:
    """Their specs, and where these differ from that of the first."""
    specs = [_spec(design, arm) for arm in design.get("arms") or []]
    for arm, spec in zip(design.get("arms") or [], specs, strict=True):
        told = told_apart([specs[0], spec])
        paths = [path for path in told.paths if path.partition(".")[0] not in _SPARE]
        changes = {path: [at.get(path) for at in told.wheres] for path in paths}
        yield {"name": arm["name"], "words": arm["words"], "differs": changes, "spec": spec}


def _beside_the_point(design: Mapping[str, Any]) -> frozenset[str]:
    return cautioned.beside_the_point(design.get("measures") or [], design.get("evaluations") or {})


def _specs(design: Mapping[str, Any]) -> dict[str, Document]:
    return {arm["name"]: _spec(design, arm) for arm in design.get("arms") or []}


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
    # JSON has no NaN and no infinity: they come as words.
    values = [number for value in there if value is not None and math.isfinite(number := float(value))]
    n = len(values)
    mean = moments.mean(values) if n else None
    sd = moments.sd(values) if n > 1 else None
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
