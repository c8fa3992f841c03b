"""A report says what is stored, verdict first, and its page is safe, whole and the same whenever it is made."""

import html
import json
import re
from typing import Any

import numpy as np
import pytest

from bncore.figures import study_effects, study_runs
from bncore.figures.drawing import drawn
from bncore.figures.results import FigureRefused, Options
from bncore.spec.free_comparison import load_comparison
from bncore.studies import asked
from bncore.studies.asking import document_of
from bncore.studies.claim import Batch, experiments
from bncore.studies.comparing import compared
from bncore.studies.page import page
from bncore.studies.reporting import document
from bncore.studies.reports import answer
from bncore.studies.results import results
from bncore.studies.verdict import document as verdict_document
from tests.bncore.studies.pages import Page

HOSTILE = '<script>alert("a")</script>&"x'
SPEC: dict[str, Any] = {
    "data": {"kind": "digits", "validation": {"share": 0.2}},
    "network": {"kind": "mlp", "hidden": [8], "norm": {"kind": "none"}},
    "train": {"steps": 400},
    "evaluation": {"every_steps": 10},
}
OTHER = {**SPEC, "network": {"kind": "mlp", "hidden": [8], "norm": {"kind": "batch_norm"}}}


def stored(name: str, factor: float, study_id: str) -> dict[str, Any]:
    """A comparison of times, tuned: the treatment takes `factor` times as long; from lr 1 on nobody arrives."""
    document = {
        "compare": {"baseline": SPEC, name: OTHER},
        "estimand": {"metric": "steps_to_target", "target": {"value": 0.8}},
        "delta": 0.5,
        "tune": {"optimizer.lr": [0.01, 0.1, 1.0]},
        "seeds": 6,
    }
    claim = compared(load_comparison(document))
    design, rows, done = claim.design("cpu"), [], []
    while isinstance(step := answer(claim, design, results(rows, done)), Batch):
        for one in experiments(design, step):
            setting = dict(one.place.setting)
            slow = {0.01: 3.0, 0.1: 1.0}.get(setting["optimizer.lr"])
            noise = float(np.random.default_rng(one.seed).normal(0, 3))
            time = None if slow is None else 60 * slow * (factor if one.place.arm == name else 1.0) + noise
            there = time if time is not None and time <= 400 else None
            metrics = {f"steps until {part}/accuracy >= 0.8": there for part in ("test", "validation")}
            about = {"arm": one.place.arm, "seed": one.seed, "setting": setting, "stage": step.stage}
            told = {"experiment": f"exp_{len(rows)}", "seconds": 1.5, "torch": "2.13", "device": "cpu", "missing": None}
            rows.append({**about, **told, "metrics": {**metrics, "test/accuracy": 0.9}, "diverged": False})
        done.append(step.stage)
    return {
        "study": {"id": study_id, "name": None, "scale": None, "spec": claim.asked.model_dump(mode="json")},
        "claim": None,
        "design": document_of(design),
        "number": 1,
        "judged_at": 1_790_000_000.0,
        "verdicts": json.loads(json.dumps([verdict_document(verdict) for verdict in step.verdicts])),
        "taken": {},
        "runs": rows,
        "facts": {"versions": {"bnlab": "1.0"}},
    }


def coloured(page: str) -> list[str]:
    """Colours that do not follow the reader's."""
    found: list[str] = re.findall(r"#(?:[0-9a-f]{6})\b", page[page.index("<body>") :], re.IGNORECASE)
    return found


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return stored("fast", 0.4, "study_a")


def test_the_report_of_a_study_has_its_verdicts_and_what_they_rest_on(study: dict[str, Any]) -> None:
    report = document(study)
    assert json.loads(asked.report_json(study, [])) == json.loads(json.dumps(report, allow_nan=False))
    assert (report["standing"], report["cost"]["runs"]) == ("holds", len(study["runs"]))
    assert report["cost"]["seconds"] == 1.5 * len(study["runs"])
    assert report["seeds"]["judging"] == list(range(6))
    assert report["seeds"]["most"] == 12
    (baseline, fast) = report["arms"]
    assert baseline["differs"] == {}
    assert fast["differs"]["network.norm.kind"] == ["none", "batch_norm"]
    judged = {(place["arm"], place["setting"]): place for place in report["places"] if place["purpose"] == "judging"}
    times = [
        run["metrics"]["steps until test/accuracy >= 0.8"]
        for run in study["runs"]
        if run["stage"] == "confirm" and run["arm"] == "fast"
    ]
    found = judged["fast", "optimizer.lr = 0.1"]["metrics"]["steps until test/accuracy >= 0.8"]
    assert (found["n"], found["never"]) == (6, 0)
    assert (found["mean"], found["sd"]) == (pytest.approx(np.mean(times)), pytest.approx(np.std(times, ddof=1)))


def test_numbers_that_are_none_and_runs_that_are_lost_are_said(study: dict[str, Any]) -> None:
    lost = json.loads(json.dumps(study))
    first, second, third, *_ = (run for run in lost["runs"] if run["stage"] == "confirm" and run["arm"] == "fast")
    first["metrics"]["test/accuracy"] = "NaN"
    second.update(metrics={}, missing="out_of_memory")
    third.update(metrics={}, diverged=True)
    report = document(lost)
    (place,) = (each for each in report["places"] if each["purpose"] == "judging" and each["arm"] == "fast")
    assert (place["missing"], place["diverged"], place["metrics"]["test/accuracy"]["n"]) == (1, 1, 3)
    assert [each["missing"] for each in report["missing"]] == ["out_of_memory"]
    report["verdicts"].append({**report["verdicts"][0], "estimated": None, "measured": {"a": 1e-9, "b": 1.0, "c": 0}})
    said = page(report, lambda figure: drawn(figure, "svg").decode())
    assert not coloured(said)
    assert all(words in said for words in ("out_of_memory", "NaN", "diverged", "Runs without a result"))


def test_a_page_needs_nothing_runs_nothing_and_is_the_same_again() -> None:
    study = stored(HOSTILE.replace("/", "").replace("~", ""), 0.4, "study_b")
    study["study"]["name"] = HOSTILE
    made = asked.report_page(study, [])
    assert made == asked.report_page(json.loads(json.dumps(study)), [])
    text = made.decode()
    seen = Page(text)
    assert seen.open == []
    assert (seen.tags["script"], seen.tags["link"], seen.tags["img"]) == (0, 0, 0)
    assert all(reference.startswith("#") for reference in seen.refers)
    assert len(seen.ids) == len(set(seen.ids))
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(seen.ids)
    assert "default-src 'none'" in html.unescape(text)
    assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/)", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text))
    # Effects, when the target was reached, the settings, and the seeds.
    assert seen.tags["svg"] == 4
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used
    assert all(text.count(f"{name}: ") == 2 for name in used), "on light grounds and on dark"
    assert not coloured(text)
    assert seen.tags["table"] == seen.tags["caption"]
    words = " ".join(seen.said)
    assert HOSTILE in words
    assert study["verdicts"][0]["sentence"] in words


def test_an_article_has_contradictions_first_and_its_own_correction() -> None:
    fast, slow, same = (
        stored(name, factor, f"study_{name}") for name, factor in (("fast", 0.4), ("slow", 2.5), ("same", 1.0))
    )
    fast["claim"], slow["claim"] = "fewer-epochs", "scale-invariance"
    verdicts = [
        {**verdict, "name": f"{part['study']['id']}/{verdict['name']}", "study": part["study"]["id"]}
        for part in (fast, slow, same)
        for verdict in part["verdicts"]
    ]
    verdicts[0] = {**verdicts[0], "outcome": "inconclusive", "alone": "holds"}
    whole = {"study": {"id": "study_all", "name": None, "scale": "tiny"}, "verdicts": verdicts, "facts": {}}
    report = document({**whole, "claim": None, "runs": [], "parts": [fast, same, slow]})
    assert [part["standing"] for part in report["parts"]] == ["contradicted", "does_not_hold", "inconclusive"]
    assert report["counts"] == {"contradicted": 1, "does_not_hold": 1, "inconclusive": 1, "holds": 0}
    assert [part["claim"]["number"] for part in report["parts"] if part["claim"]] == ["C5", "C1"]
    # The literature agrees with a claim, and this came out the other way round.
    assert {each["came_out"] for each in report["parts"][0]["claim"]["literature"]} == {"otherwise"}
    seen = Page(page(report, lambda _: "<svg></svg>"))
    said = " ".join(seen.said)
    assert said.index("is the other way round") < said.index("does not hold") < said.index("stays open")
    assert "By itself, without the other questions of this report, it  ● holds" in said
    assert {reference.removeprefix("#") for reference in seen.refers} <= set(seen.ids)


@pytest.mark.parametrize(
    ("explodes", "plain"), [("holds", "holds"), ("does_not_hold", "holds"), ("holds", "does_not_hold")]
)
def test_a_source_on_one_question_of_a_counter_claim_is_held_against_that_question(
    study: dict[str, Any], explodes: str, plain: str
) -> None:
    """Growth in normalized networks, and in others, as arXiv 1902.08129 and 1806.02375 say."""
    (verdict,) = study["verdicts"]
    asked_of = {"explodes": explodes, "plain": plain}
    verdicts = [{**verdict, "name": name, "outcome": outcome, "label": None} for name, outcome in asked_of.items()]
    report = document({**study, "claim": "gradients-explode-with-depth", "verdicts": verdicts})
    grows, grows_without = (each["came_out"] for each in report["claim"]["literature"])
    assert grows == ("as it says" if explodes == "holds" else "otherwise")
    assert grows_without == ("otherwise" if plain == "holds" else "as it says")


def test_figures_draw_the_numbers_of_verdicts(study: dict[str, Any]) -> None:
    (verdict,) = study["verdicts"]
    shown = verdict["estimated"]["shown"]
    for theme in ("light", "dark"):
        options = Options(theme=theme)
        effects = study_effects.effects([verdict], options)
        (row,) = next(layer["data"]["values"] for layer in effects["layer"] if "x2" in layer["encoding"])
        assert [row[name] for name in ("effect", "low", "high")] == pytest.approx(
            [shown[name] for name in ("effect", "low", "high")]
        )
        marks = next(layer["data"]["values"] for layer in effects["layer"] if layer["mark"].get("orient") == "vertical")
        assert [mark["at"] for mark in marks] == pytest.approx([1.5])
        assert drawn(effects, "svg").startswith(b"<svg")
    tuned = study_runs.tuning(study["design"], study["runs"], Options())
    best = {row["arm"]: row["at"] for layer in tuned["layer"] for row in layer["data"]["values"] if row.get("is_best")}
    assert best == {"baseline": 0.1, "fast": 0.1}
    with pytest.raises(FigureRefused):
        study_runs.learning([], "test/accuracy", Options())


def test_kaplan_and_meier_keep_those_who_never_arrived() -> None:
    reaching = {"a": {"times": [10, 20, 20, 40, 40], "reached": [True, True, False, True, False]}}
    verdict = {"name": "q", "effects": {"reaching": reaching}}
    drawing = study_runs.reaching([verdict], Options())
    curve, ends = (layer["data"]["values"] for layer in drawing["layer"])
    # At risk 5, 4, 2: S = 4/5, 4/5 * 3/4, 4/5 * 3/4 * 1/2.
    assert [(row["step"], row["share"]) for row in curve] == [(0, 0), (10, 0.2), (20, 0.4), (40, 0.7)]
    assert [(row["step"], row["share"]) for row in ends] == [(20, 0.4), (40, 0.7)]


def test_numbers_that_are_not_finite_are_left_out_of_pictures_and_tables(study: dict[str, Any]) -> None:
    odd = json.loads(json.dumps(study))
    (verdict,) = odd["verdicts"]
    verdict["effects"]["values"][0] = None
    verdict["estimated"].update(power=None, interval={"low": None, "high": None})
    verdict["estimated"]["shown"].update(low=None, high=None)
    verdict["measured"] = {"beside": None}
    seen = Page(page(document(odd), lambda figure: drawn(figure, "svg").decode()))
    assert seen.tags["svg"] == 4
    assert "(?\u00a0to\u00a0?)" in " ".join(seen.said)
