"""Evidence in, verdict out.

Invariant: a function of what is given, looks included; a failed guard, too few pairs, or a bound that points the
wrong way make a verdict inconclusive and never silently change a number.
"""

import math

from bncore.studies import fractions, sentences
from bncore.studies.guards import COMPLETENESS, Guard, enough_pairs
from bncore.studies.intervals import (
    ENUMERATED,
    bootstrap_interval,
    mean_and_error,
    p_of_decision,
    p_of_no_effect,
    sign_flip_p,
    t_interval,
)
from bncore.studies.looks import Looks, level, overall_p
from bncore.studies.margin import Interval, Label, Outcome, Side, decided, label, one_sided, unknown_sides
from bncore.studies.power import extra_seeds, power
from bncore.studies.predictions import mcnemar
from bncore.studies.times import times
from bncore.studies.verdict import ArmTimes, Counted, Estimated, Evidence, Exact, Fractions, Tests, Verdict


def judge(asked: Evidence | Exact | Fractions, looks: Looks | None = None) -> Verdict:
    """The verdict on one question.

    Args:
        looks: how far the study may go and the looks taken before; None: this look is the only one ever.

    Raises:
        LookRefused: there are more pairs than the study may have, or fewer than at an earlier look.
    """
    if isinstance(asked, Exact):
        return _judge_exact(asked)
    if isinstance(asked, Fractions):
        return _judge_fractions(asked, looks)
    return _judge_effect(asked, looks)


def _judge_effect(asked: Evidence, looks: Looks | None) -> Verdict:
    n = len(asked.effects.values)
    guards = (enough_pairs(asked.effects), *asked.guards)
    if n < 2:
        return _without_estimate(asked, guards)
    looked = (looks or Looks(most=n)).at(n)
    estimated = _estimated(asked, looked)
    side = decided(asked.margin, estimated.interval)
    allowed = one_sided(side, asked.margin, estimated.interval, asked.effects.bounds)
    reasons = _reasons(guards, asked, side, estimated.interval)
    outcome = allowed if all(guard.passed for guard in guards) else "inconclusive"
    named = _label(guards) or label(asked.margin, outcome, estimated.interval, asked.effects.bounds)
    return Verdict(
        asked.name,
        asked.words,
        outcome,
        named,
        reasons,
        _sentence(asked, estimated, outcome, named, reasons),
        n,
        guards,
        asked.estimand,
        asked.margin,
        asked.effects,
        estimated,
        _times(asked),
        mcnemar(asked.right.treatment, asked.right.baseline) if asked.right else None,
        asked.measured,
    )


def _estimated(asked: Evidence, looks: Looks) -> Estimated:
    values, margin, n = asked.effects.values, asked.margin, len(asked.effects.values)
    significance = level(looks)
    mean, error = mean_and_error(values)
    interval = t_interval(values, significance)
    sd = error * math.sqrt(n)
    return Estimated(
        effect=mean,
        sd=sd,
        interval=interval,
        shown=sentences.shown(asked.words, asked.estimand, asked.effects, mean, interval),
        bootstrap=bootstrap_interval(values, significance),
        tests=Tests(
            p_of_no_effect(values),
            sign_flip_p(values),
            n <= ENUMERATED,
            overall_p(p_of_decision(values, margin), looks),
        ),
        power=power(n, sd, margin, significance),
        extra_seeds=extra_seeds(values, margin, looks) if decided(margin, interval) == "inconclusive" else None,
        level=significance,
        looks=looks.taken,
        most=looks.most,
    )


def _reasons(guards: tuple[Guard, ...], asked: Evidence, side: Outcome, interval: Interval) -> tuple[str, ...]:
    """Why it is inconclusive: every guard that failed, or else bounds, or else the interval."""
    failed = tuple(guard.sentence for guard in guards if not guard.passed)
    if failed:
        return failed
    if unknown := unknown_sides(side, asked.margin, interval, asked.effects.bounds):
        return tuple(dict.fromkeys(_bounded(asked, end) for end in unknown))
    return ("The interval reaches to both sides of that.",) if side == "inconclusive" else ()


def _bounded(asked: Evidence, side: Side) -> str:
    """Of how many seeds the effect may lie beyond that side, and what would tell."""
    bounds = asked.effects.bounds
    assert bounds is not None
    known, count = ("at most", bounds.upper) if side == "low" else ("at least", bounds.lower)
    if asked.estimand.scale != "log_time_ratio":
        return f"In {_seeds(count)} the effect is only known to be {known} that: it takes a wider range."
    cure = "it takes more steps" if side == "low" and count else "it takes more steps, or more frequent looks"
    if count:
        return f"In {_seeds(count)} the ratio is only known to be {known} what was counted: {cure}."
    both = "both arms were there at the first look, or not in time"
    return f"In {_seeds(bounds.neither)} nothing is known of the ratio, since {both}: {cure}."


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def _label(guards: tuple[Guard, ...]) -> Label | None:
    """Too few runs are no failed control."""
    return "control_failed" if any(not guard.passed and guard.name not in COMPLETENESS for guard in guards) else None


def _sentence(
    asked: Evidence, estimated: Estimated, outcome: Outcome, named: Label | None, reasons: tuple[str, ...]
) -> str:
    found = sentences.finding(asked.words, asked.estimand, estimated.shown, asked.effects.bounds)
    wanted = sentences.asking(asked.words, asked.estimand, asked.margin)
    n = len(asked.effects.values)
    text = sentences.sentence(outcome, named, reasons, found, wanted, n)
    if decided(asked.margin, estimated.interval) != "inconclusive":
        return text
    return text + sentences.ahead(estimated.extra_seeds, estimated.most - n)


def _times(asked: Evidence) -> dict[str, ArmTimes]:
    each = {arm: times(reaching) for arm, reaching in asked.effects.reaching.items()}
    return {arm: ArmTimes(of.seeds, of.reached, of.fraction_reached, of.median) for arm, of in each.items()}


def _without_estimate(asked: Evidence, guards: tuple[Guard, ...]) -> Verdict:
    """One pair has no spread, and none has nothing."""
    n = len(asked.effects.values)
    reasons = tuple(guard.sentence for guard in guards if not guard.passed)
    text = sentences.sentence("inconclusive", None, reasons, "no interval can be given", "", n)
    return Verdict(
        asked.name,
        asked.words,
        "inconclusive",
        _label(guards),
        reasons,
        text,
        n,
        guards,
        asked.estimand,
        asked.margin,
        asked.effects,
    )


def _judge_exact(asked: Exact) -> Verdict:
    """All below the limit, or not; NaN is not."""
    over = {name: value for name, value in asked.measured.items() if not abs(value) < asked.limit}
    failed = tuple(guard.sentence for guard in asked.guards if not guard.passed)
    outcome: Outcome = "inconclusive" if failed or not asked.measured else "does_not_hold" if over else "holds"
    worst = max((abs(value) for value in asked.measured.values()), default=math.nan, key=_nan_is_largest)
    found = f"the largest of {len(asked.measured)} errors is {worst:.1e}"
    text = sentences.sentence(outcome, None, failed, found, f"Below {asked.limit:.0e} was asked for.", 1)
    return Verdict(
        asked.name,
        asked.words,
        outcome,
        _label(asked.guards),
        failed,
        text,
        1,
        asked.guards,
        measured=asked.measured,
    )


def _nan_is_largest(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _judge_fractions(asked: Fractions, looks: Looks | None) -> Verdict:
    """See `fractions`."""
    n = min(seeds for _, seeds in (*asked.treatment.values(), *asked.baseline.values()))
    reached, counted = fractions.counted(asked, (looks or Looks(most=n)).at(n))
    failed = tuple(guard.sentence for guard in asked.guards if not guard.passed)
    outcome: Outcome = "inconclusive" if failed else reached
    reasons = failed or ((_undecided(asked, counted, n),) if outcome == "inconclusive" else ())
    least = min(trained / seeds for trained, seeds in asked.treatment.values())
    most = max(trained / seeds for trained, seeds in asked.baseline.values())
    ours = f"with {asked.words.treatment} at least {least:.0%} of the networks train at every setting"
    found = f"{ours}, and with {asked.words.baseline} at most {most:.0%}"
    wanted = f"At least {asked.high:.0%} and at most {asked.low:.0%} were asked for."
    shares = {f"share at {one.setting}, {one.arm}": one.trained / one.seeds for one in counted.shares}
    beside = {"least_of_treatment": least, "most_of_baseline": most, "p by Fisher's test": fractions.fisher(asked)}
    return Verdict(
        asked.name,
        asked.words,
        outcome,
        _label(asked.guards),
        reasons,
        sentences.sentence(outcome, None, reasons, found, wanted, n),
        n,
        asked.guards,
        measured={**beside, **shares},
        counted=counted,
    )


def _undecided(asked: Fractions, counted: Counted, n: int) -> str:
    """What would be seen if the claim were true, and with how many seeds it would show."""
    if n >= counted.seeds_needed:
        return "At some setting the interval reaches to both sides of that."
    where = "" if counted.seeds_needed <= counted.most else ", in a study that begins with so many"
    return (
        f"{n} seeds cannot show a share of {asked.high:.0%} even if all of them train: it takes "
        f"{counted.seeds_needed}{where}."
    )
