"""A verdict as one would read it out: what was found, how sure it is, and what was asked for."""

import math
from collections.abc import Mapping

from bncore.studies.estimand import Bounds, Effects, Estimand
from bncore.studies.margin import Interval, Label, Margin, Outcome
from bncore.studies.verdict import Words

_OPENING: Mapping[Outcome, str] = {
    "holds": "This holds",
    "does_not_hold": "This does not hold",
    "inconclusive": "This stays open",
}
_LOGARITHMIC = ("log_ratio", "log_time_ratio")


def shown(
    words: Words, estimand: Estimand, found: Effects, effect: float, interval: Interval
) -> dict[str, float | str]:
    """Effect and interval in the unit of the words, nothing where they are rounding; ratios for their logarithms."""
    each = [found.read(x) for x in (effect, interval.low, interval.high)]
    if estimand.scale in _LOGARITHMIC:
        numbers = [math.exp(max(-700.0, min(x, 700.0))) for x in each]
        unit = "times"
    else:
        numbers = [x * words.factor for x in each]
        unit = words.unit
    return {"effect": numbers[0], "low": numbers[1], "high": numbers[2], "unit": unit}


def sentence(outcome: Outcome, label: Label | None, reasons: tuple[str, ...], found: str, asked: str, n: int) -> str:
    """The opening, what was found, what was asked for, and why it stays open or what the label means."""
    closing = " ".join(reasons) if reasons else meaning(label, outcome)
    parts = (f"{_OPENING[outcome]}: {found}, over {n} {'seed' if n == 1 else 'seeds'}.", asked, closing)
    return " ".join(part for part in parts if part)


def finding(words: Words, estimand: Estimand, numbers: Mapping[str, float | str], bounds: Bounds | None) -> str:
    """What was found, with its interval."""
    effect, low, high = (float(numbers[name]) for name in ("effect", "low", "high"))
    if estimand.scale == "value":
        return f"{words.quantity} of {words.treatment} is {_at(effect, words.unit)} (95 % interval {_span(low, high)})"
    if estimand.scale == "difference":
        verb = "higher" if (effect >= 0) == estimand.metric.higher_is_better else "lower"
        reach = f"95 % interval {_span(low, high)}; positive is better"
        if effect == 0:
            return f"{words.quantity} is as high with {words.treatment} as with {words.baseline} ({reach})"
        return f"{words.quantity} is {_at(abs(effect), words.unit)} {verb} {_arms(words)} ({reach})"
    span = f"95 % interval {written(low)} to {written(high)} times"
    if estimand.scale == "log_time_ratio":
        limit = f"times counted up to {written(estimand.budget or 0)}"
        least = _bounded(bounds) if effect >= 1 else ""
        compared = f"{least}{_times(effect)} {words.quantity} than {words.baseline}"
        if _is_one(effect) and not least:
            compared = f"as many {words.quantity} as {words.baseline}"
        return f"{words.treatment} takes {compared} ({span}; {limit})"
    verb = "larger" if (effect >= 1) == estimand.metric.higher_is_better else "smaller"
    ratio = written(effect if effect >= 1 else 1 / effect)
    if _is_one(effect):
        return (
            f"{words.quantity} is as large with {words.treatment} as with {words.baseline} ({span}; above 1 is better)"
        )
    return f"{words.quantity} is {ratio} times {verb} {_arms(words)} ({span}; above 1 is better)"


def asking(words: Words, estimand: Estimand, margin: Margin) -> str:
    """What the effect had to be."""
    if margin.kind == "equality":
        around = f" of {_at(margin.around * words.factor, words.unit)}" if margin.around else " of no difference"
        return f"It counts as equal within {_amount(words, estimand, margin.value)}{around}."
    if margin.kind == "non_inferiority":
        return f"A loss of up to {_amount(words, estimand, margin.value)} was allowed."
    return f"A gain of more than {_amount(words, estimand, margin.value)} was asked for."


def ahead(extra_seeds: int | None, room: int) -> str:
    """What more seeds would do, of those that the study may still have."""
    if extra_seeds:
        return f" About {extra_seeds} more seeds would probably decide."
    return f" The {room} seeds more that it may have would probably not decide it." if room else ""


def _amount(words: Words, estimand: Estimand, value: float) -> str:
    if estimand.scale in _LOGARITHMIC:
        return f"a factor of {written(math.exp(value))}"
    return _at(value * words.factor, words.unit)


def meaning(label: Label | None, outcome: Outcome) -> str:
    """What a label says beyond the outcome; "" where it says nothing."""
    if label == "contradicted":
        return "It is the other way round."
    if label == "equivalent" and outcome == "does_not_hold":
        return "The difference is too small to matter."
    return ""


def _times(ratio: float) -> str:
    return f"{written(ratio)} times fewer" if ratio >= 1 else f"{written(1 / ratio)} times more"


def _is_one(ratio: float) -> bool:
    """As it would be read out."""
    return written(ratio if ratio >= 1 else 1 / ratio) == "1"


def _bounded(bounds: Bounds | None) -> str:
    """Where every seed's ratio is known to be as large, or larger."""
    return "at least " if bounds and bounds.lower and not bounds.upper and not bounds.neither else ""


def _arms(words: Words) -> str:
    return f"with {words.treatment} than with {words.baseline}"


def _at(value: float, unit: str) -> str:
    number = written(value)
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}".rstrip()


def _span(low: float, high: float) -> str:
    return f"{written(low)} to {written(high)}"


def written(value: float) -> str:
    """Three digits, as people write them."""
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
