"""Shares at several settings make one verdict: all have to be shown for it, any may refute it, looks are paid for."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from bench.coverage_of_shares import TRUTHS, before, now, said
from bncore.studies.asking import document_of
from bncore.studies.claims import CLAIMS
from bncore.studies.estimand import Estimand, computed
from bncore.studies.judging import judge
from bncore.studies.looks import Looks, level
from bncore.studies.margin import Margin
from bncore.studies.page import page
from bncore.studies.reporting import document as reported
from bncore.studies.reports import judged, report
from bncore.studies.results import Metric
from bncore.studies.verdict import Evidence, Fractions, Words, document
from tests.bncore.studies.pages import Page

WORDS = Words("Do they train?", "share", "batch normalization", "none")
HIGH, LOW = Fraction(9, 10), Fraction(1, 10)


def at_least(count: int, of: int, share: Fraction) -> Fraction:
    """The probability of so many or more, by its sum."""
    return sum((math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(count, of + 1)), start=Fraction(0))


def asked(ours: list[int], theirs: list[int], seeds: int, name: str = "trains") -> Fractions:
    counts = [{f"lr {place}": (count, seeds) for place, count in enumerate(each)} for each in (ours, theirs)]
    return Fractions(name, WORDS, counts[0], counts[1])


def by_hand(ours: list[int], theirs: list[int], seeds: int) -> tuple[float, float]:
    """Two-sided p of all statements, and of any of them."""
    # That a share is at most .1 is that the share of those which do not train is at least .9.
    right = [*ours, *(seeds - count for count in theirs)]
    shown = [at_least(count, seeds, HIGH) for count in right]
    refuted = [1 - at_least(count + 1, seeds, HIGH) for count in right]
    return float(min(1, 2 * max(shown))), float(min(1, 2 * len(right) * min(refuted)))


@pytest.mark.parametrize("look", ["only", "first"])
@pytest.mark.parametrize(
    ("ours", "theirs", "seeds"),
    [
        ([10, 10], [0, 0], 10),
        ([10, 6], [0, 0], 10),
        ([10, 5], [0, 0], 10),
        ([10, 10], [4, 0], 10),
        ([10, 10], [5, 0], 10),
        ([36, 36], [0, 0], 36),
        ([36, 35], [0, 0], 36),
        ([40, 40], [0, 0], 40),
        ([60, 59], [1, 0], 60),
        ([60, 40], [1, 0], 60),
        ([120, 116], [3, 4], 120),
    ],
)
def test_all_have_to_be_shown_and_any_refutes(ours: list[int], theirs: list[int], seeds: int, look: str) -> None:
    most = seeds if look == "only" else 2 * seeds
    error = 0.05 * (math.log1p((math.e - 1) / 2) if look == "first" else 1.0)
    shown, refuted = by_hand(ours, theirs, seeds)
    expected = "holds" if shown < error else "does_not_hold" if refuted < error else "inconclusive"
    verdict = judge(asked(ours, theirs, seeds), Looks(most))
    found = verdict.counted
    assert found is not None
    assert (verdict.outcome, found.looks, found.most) == (expected, (seeds,), most)
    assert found.level == pytest.approx(error)
    assert verdict.decision == pytest.approx(min(1.0, min(shown, refuted) * 0.05 / error))
    assert (expected == "inconclusive") == (verdict.decision >= 0.05)
    # Each with the level of its look over four.
    for one in found.shares:
        low = stats.beta.ppf(error / 8, one.trained, seeds - one.trained + 1) if one.trained else 0.0
        high = stats.beta.ppf(1 - error / 8, one.trained + 1, seeds - one.trained) if one.trained < seeds else 1.0
        assert (one.interval.low, one.interval.high) == pytest.approx((low, high))
    assert document(verdict)["counted"]["shares"][0]["trained"] == ours[0]


def test_it_says_with_how_many_seeds_it_could_hold() -> None:
    few = judge(asked([10], [0], 10), Looks(20))
    assert few.outcome == "inconclusive"
    assert few.counted is not None
    needed = few.counted.seeds_needed
    assert f"even if all of them train: it takes {needed}, in a study that begins with so many." in few.sentence
    assert judge(asked([needed], [0], needed), Looks(2 * needed)).outcome == "holds"
    assert judge(asked([needed - 1], [0], needed - 1), Looks(2 * (needed - 1))).outcome == "inconclusive"
    some = judge(asked([30], [0], 30), Looks(60)).counted
    assert some is not None
    assert judge(asked([some.seeds_needed], [0], some.seeds_needed), Looks(60, (30,))).outcome == "holds"
    assert judge(asked([some.seeds_needed - 1], [0], some.seeds_needed - 1), Looks(60, (30,))).outcome != "holds"
    unclear = judge(asked([90], [8], 100), Looks(200))
    assert (unclear.outcome, unclear.reasons) == (
        "inconclusive", ("At some setting the interval reaches to both sides of that.",)
    )  # fmt: skip
    with pytest.raises(ValueError, match="share of 1 or 0"):
        Fractions("trains", WORDS, {}, {}, high=1.0)


def test_every_look_is_paid_for_also_one_that_was_taken_before_looks_were_kept() -> None:
    first = judge(asked([9, 10], [0, 1], 10), Looks(20))
    assert first.looks == (10,)
    second = judge(asked([18, 20], [0, 2], 20), Looks(20, first.looks))
    assert second.counted is not None
    assert (second.looks, second.counted.level) == ((10, 20), level(Looks(20, (10, 20))))
    assert second.counted.level < level(Looks(20, (20,)))
    assert judge(asked([18, 20], [0, 2], 20), Looks(20, second.looks)) == second
    design = replace(CLAIMS["saturating-activations-train"].design("cpu"), extensions=(4, 6))
    (later,) = judged([asked([18, 20], [0, 2], 20)], design, {})
    assert later.looks == (10, 14, 20)
    (kept,) = judged([asked([18, 20], [0, 2], 20)], design, {"trains": [10]})
    assert kept.looks == (10, 20)


def test_holm_counts_it_among_the_questions_of_a_report() -> None:
    counted = judge(asked([10, 5], [0, 0], 10))
    alone = counted.decision
    assert alone is not None
    assert counted.outcome == "does_not_hold"
    values = [float(place) for place in range(10)]
    mean = Evidence("mean", WORDS, Estimand(Metric("x")), Margin("superiority", 4.0), computed(range(10), values))
    others = [replace(judge(mean), name=f"mean {place}") for place in range(4)]
    (one,) = report([counted]).verdicts
    assert one.counted is not None
    assert (one.outcome, one.counted.decision_holm) == ("does_not_hold", alone)
    found = report([*others, counted]).verdicts[-1]
    assert found.counted is not None
    assert (found.outcome, found.alone) == ("inconclusive", "does_not_hold")
    assert found.counted.decision_holm == pytest.approx(5 * alone)
    assert 5 * alone > 0.05 > alone


def test_a_page_shows_shares_with_their_intervals() -> None:
    """And the p of the decision, alone and among the others, as tables of what rests on effects do."""
    design = CLAIMS["saturating-activations-train"].design("cpu")
    (verdict,) = report([judge(asked([10, 2], [0, 0], 10), Looks(20))]).verdicts
    stored = {"study": {"id": "stu_a"}, "claim": "saturating-activations-train", "design": document_of(design)}
    text = " ".join(Page(page(reported({**stored, "verdicts": [document(verdict)]}), lambda _: "<svg></svg>")).said)
    found = verdict.counted
    assert found is not None
    for one in found.shares:
        assert f"{one.trained} of 10 {one.interval.low:.0%} to {one.interval.high:.0%}" in " ".join(text.split())
    assert f"in all looks {found.decision:.2g}; among all questions {found.decision:.2g} (Holm)" in text


STUDIES = 400


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("truth", [truth for truth in TRUTHS if truth.wrong], ids=lambda truth: truth.name)
def test_at_a_limit_it_is_wrong_no_oftener_than_it_says(truth, extended: bool, shared: bool) -> None:
    """Half of 5 %, within three standard errors; what it was before was wrong in one study of six, or in most."""
    most = 0.025 + 3 * math.sqrt(0.025 * 0.975 / STUDIES)
    for n in (10, 40):
        random = np.random.default_rng((7, n))
        assert said(truth, now, n, STUDIES, random, extended=extended, shared=shared)[truth.wrong] <= most
    if not shared:
        assert said(truth, before, 40, 200, np.random.default_rng(8), extended=extended)[truth.wrong] > 2 * most


def test_with_enough_seeds_what_is_true_is_found() -> None:
    sure = next(truth for truth in TRUTHS if truth.name == "true beyond doubt")
    false = next(truth for truth in TRUTHS if truth.name == "false at one setting")
    assert said(sure, now, 40, 50, np.random.default_rng(1))["holds"] == 1.0
    assert said(false, now, 20, 50, np.random.default_rng(2))["does_not_hold"] > 0.9
