"""What a user may change of a claim's specs: whatever the claim itself does not decide.

Invariant: a change reaches every arm as it was asked for, and leaves what is judged as it was registered: what is
varied, when it is looked at, what counts as chance. Anything else is refused, with all that is wrong at once.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from bncore.spec.data import data_shape
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import Fault, SpecError, pointer_part
from bncore.spec.merging import merged
from bncore.spec.parse import load_spec
from bncore.spec.sweep.paths import is_within
from bncore.studies.claim import Design
from bncore.studies.measures import AtLevel, FirstReaching, Greatest, Least, MeanOverSteps, Within

_SEED = "train.seed"
_OF_A_COURSE = (AtLevel, FirstReaching, Greatest, Least, MeanOverSteps)
_BUDGET = ("train.steps", "train.epochs")
_PARTS_LOOKED_AT = ("test/", "validation/")


def require_fitting(design: Design, varied: Collection[str], overrides: Mapping[str, Any]) -> None:
    """Refuse what contradicts the claim.

    Args:
        design: as it is without them.
        varied: paths that the first experiments are tried at.

    Raises:
        SpecError: with pointers into the study.
    """
    registered = {arm.name: merged(dict(design.template), dict(arm.patch)) for arm in design.arms}
    template = merged(dict(design.template), dict(overrides))
    changed = {arm.name: merged(template, dict(arm.patch)) for arm in design.arms}
    varied = {_SEED, *varied, *(axis.path for axis in design.grid.axes), *design.varied_later}
    leaves = list(_leaves(overrides))
    faults = [fault for path, value in leaves for fault in _contradicted(design, varied, registered, path, value)]
    faults = faults or [fault for path, value in leaves for fault in _overruled(design, changed, path, value)]
    faults = faults or [fault for arm in changed for fault in _impossible(arm, changed[arm], overrides)]
    faults = faults or list(_chance(design, registered, changed))
    if faults:
        raise SpecError(list(dict.fromkeys(faults)))


def _contradicted(
    design: Design, varied: Collection[str], registered: Mapping[str, Any], path: Sequence[str], value: Any
) -> Iterator[Fault]:
    """What is decided by the claim, whatever the arm."""
    named, pointer = ".".join(path), _pointer(path)
    if any(is_within(named, one) or is_within(one, named) for one in varied):
        yield Fault(pointer, f"Is chosen by {design.claim} itself; leave it out", "set_by_study")
        return
    why = _fixed(design, registered, named)
    if why is not None:
        yield Fault(pointer, f"{why}; leave it out", "set_by_claim")
    elif value is None and any(_at(one, path) is not None for one in registered.values()):
        was = next(_at(one, path) for one in registered.values() if _at(one, path) is not None)
        said = f" ({was})" if isinstance(was, str | int | float) else ""
        detail = f"{design.claim} says {named}{said}, and null would take it away; give another value, or leave it out"
        yield Fault(pointer, detail, "set_by_claim")


def _fixed(design: Design, registered: Mapping[str, Any], named: str) -> str | None:
    """Why the claim cannot have it otherwise."""
    if is_within(named, "evaluation.every_steps") or named == "evaluation":
        timed = [each.name for each in design.measures if isinstance(each, _OF_A_COURSE) and _is_evaluated(each.series)]
        every = next(iter({_at(one, ("evaluation", "every_steps")) for one in registered.values()}))
        return f"{design.claim} looks every {every} steps, and is judged by {timed[0]}" if timed else None
    if is_within(named, "diagnostics"):
        judging = [each.series for each in design.measures if each.series.startswith("diagnostics/")]
        return f"{design.claim} is judged by {judging[0]}, as it measures it" if judging else None
    if named in (*_BUDGET, "train"):
        within = [each.name for each in design.measures if isinstance(each, Within)]
        return f"{design.claim} is judged by the {within[0]}, which are those of its own budget" if within else None
    return None


def _overruled(design: Design, changed: Mapping[str, Any], path: Sequence[str], value: Any) -> Iterator[Fault]:
    """What some arms set themselves, so that it would not reach them."""
    own = [arm for arm, spec in changed.items() if _at(spec, path) != value]
    if value is not None and own:
        who = "Every arm" if len(own) == len(changed) else ", ".join(own)
        detail = f"{who} of {design.claim} sets {'.'.join(path)} otherwise; leave it out"
        yield Fault(_pointer(path), detail, "set_by_arms")


def _impossible(arm: str, document: dict[str, Any], overrides: Mapping[str, Any]) -> Iterator[Fault]:
    """What makes a spec invalid."""
    try:
        load_spec(document)
    except SpecError as error:
        for fault in error.faults:
            steps = [part.replace("~1", "/").replace("~0", "~") for part in fault.pointer.split("/")[1:]]
            if _reaches(overrides, steps):
                yield Fault(f"/overrides{fault.pointer}", fault.detail, fault.code)
            else:
                detail = f"Makes the arm {arm} impossible at {fault.pointer}: {fault.detail}"
                yield Fault("/overrides", detail, fault.code)


def _chance(design: Design, registered: Mapping[str, Any], changed: Mapping[str, Any]) -> Iterator[Fault]:
    """Other data may be had; but as many classes, by which claims say what chance is, and whether a network trains."""
    if not any("accuracy" in each.series for each in design.measures):
        return
    for arm, document in changed.items():
        was, is_now = _classes(load_spec(registered[arm])), _classes(load_spec(document))
        if was != is_now:
            said = f"{is_now} classes" if is_now else "no classes"
            detail = f"Has {said}, and {design.claim} counts what diverged as chance among {was}; give such data"
            yield Fault("/overrides/data", detail, "other_classes")


def _classes(spec: ExperimentSpec) -> int | None:
    return data_shape(spec.data).classes


def _is_evaluated(series: str) -> bool:
    return series.startswith(_PARTS_LOOKED_AT)


def _pointer(path: Sequence[str]) -> str:
    return "/overrides" + "".join(map(pointer_part, path))


def _leaves(patch: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in patch.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, key))
        elif not isinstance(value, Mapping):
            yield (*above, key), value


def _at(document: Any, path: Sequence[str]) -> Any:
    for part in path:
        document = document.get(part) if isinstance(document, Mapping) else None
    return document


def _reaches(patch: Any, path: Sequence[str]) -> bool:
    """Whether a patch says something at, above or below a path."""
    for part in path:
        if not isinstance(patch, Mapping):
            return True
        if part not in patch:
            return False
        patch = patch[part]
    return True
