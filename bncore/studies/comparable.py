"""The specs of a free comparison, complete, and why they cannot be compared.

Invariant: what comes through is one comparison: every spec is valid at every setting, all arms are tested on the same
examples and see the same seeds, and each records what is compared.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bncore.comparison.differing import differences
from bncore.comparison.meant import told_apart
from bncore.spec.data import data_shape
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import MAX_FAULTS, Fault, SpecError, pointer_part
from bncore.spec.free_comparison import BASELINE, FreeComparison
from bncore.spec.parse import load_spec
from bncore.spec.plan import steps_per_epoch, total_steps
from bncore.spec.recorded import recorded_of
from bncore.spec.sweep.paths import is_within, put
from bncore.spec.wording import nearest

Complete = Callable[[Any], Any]
"""What a document that names a data set or a checkpoint is with what those say; as it is where it names none."""
_WAYS_TO_SEE_DATA = frozenset({"as", "resize", "standardize", "augment", "sampler", "imbalance"})
"""Of `data`, what may be what is compared: the examples that are tested on stay the same."""
_SAY_NOTHING_OF_RESULTS = ("checkpoint", "max_restarts", "deadline_seconds", "stall_seconds")
_FIXED = {
    "train.seed": "a study gives the seeds itself, the same to all arms",
    "data": "arms are tested on the same examples, whatever the setting",
    "name": "it changes no result",
    "tags": "they change no result",
    "evaluation": "what is measured, and when, is the same at every setting",
    "diagnostics": "what is measured, and when, is the same at every setting",
}
_DIAGNOSTICS = "diagnostics/"
_MOST_NAMED = 3


def completed(asked: FreeComparison, complete: Complete = lambda document: document) -> FreeComparison:
    """The comparison with complete specs: it means the same wherever it is read again.

    Raises `SpecError`, with pointers into what was asked.
    """
    specs = _valid(asked, complete)
    whole = {name: spec.model_dump(mode="json") for name, spec in specs.items()}
    alike = (_unpaired(asked, specs), _untimed(asked, specs), _measured_apart(asked, specs))
    between = (*alike, _unmeasured(asked, specs), _same(asked, whole), _untrainable(asked, specs[BASELINE]))
    _refuse(itertools.chain(*between, _untunable(asked, specs, whole)))
    _refuse(itertools.islice(_invalid_settings(asked, whole), MAX_FAULTS))
    return asked.model_copy(update={"compare": whole})


def steps_of(spec: ExperimentSpec) -> int:
    """Of its whole budget."""
    return total_steps(spec.train, steps_per_epoch(spec.train, data_shape(spec.data)))


def ignorant(spec: ExperimentSpec) -> float | None:
    """The accuracy of who has learned nothing: chance, or the share of the commonest class; None of a regression."""
    sizes = data_shape(spec.data)
    if sizes.task == "regression":
        return None
    counts = spec.data.all_class_counts()
    return max(1.0 / sizes.outputs, max(counts) / sum(counts) if counts and sum(counts) else 0.0)


def is_valid(whole: Mapping[str, Any], setting: Mapping[str, Any]) -> bool:
    """Whether a complete spec is one with other values at some paths."""
    try:
        load_spec(_with(whole, setting))
    except SpecError:
        return False
    return True


def _refuse(faults: Iterator[Fault]) -> None:
    if found := list(faults):
        raise SpecError(found)


def _valid(asked: FreeComparison, complete: Complete) -> dict[str, ExperimentSpec]:
    specs: dict[str, ExperimentSpec] = {}
    faults: list[Fault] = []
    for name, document in asked.compare.items():
        try:
            specs[name] = load_spec(complete(document))
        except SpecError as error:
            above = _above(name)
            faults += [Fault(above + fault.pointer, fault.detail, fault.code) for fault in error.faults]
    _refuse(iter(faults))
    return specs


def _unpaired(asked: FreeComparison, specs: Mapping[str, ExperimentSpec]) -> Iterator[Fault]:
    """Pairs share what a seed decides, and the examples that are tested on."""
    first = specs[BASELINE]
    data = first.data.model_dump(mode="json")
    for name in asked.treatments:
        other = specs[name].data.model_dump(mode="json")
        different = [path for path in differences([data, other]) if path.partition(".")[0] not in _WAYS_TO_SEE_DATA]
        if different:
            said = ", ".join(f"data.{path}" for path in different[:_MOST_NAMED])
            detail = (
                f"Differs from the baseline in {said}: the two are not tested on the same examples, so their seeds "
                "are no pairs; give both the same"
            )
            yield Fault(f"{_above(name)}/data", detail, "not_paired")
        if specs[name].resources.device != first.resources.device:
            detail = f"The baseline asks for {first.resources.device}; a study waits in one queue: give both the same"
            yield Fault(f"{_above(name)}/resources/device", detail, "not_paired")
        if specs[name].train.seed != first.train.seed:
            detail = "A study gives the seeds itself, the same to all arms; leave it out"
            yield Fault(f"{_above(name)}/train/seed", detail, "not_paired")


def _unmeasured(asked: FreeComparison, specs: Mapping[str, ExperimentSpec]) -> Iterator[Fault]:
    """What is compared is recorded by every arm."""
    estimand, first = asked.estimand, specs[BASELINE]
    pointer = "/estimand/target/metric" if estimand.is_time else "/estimand/metric"
    lacking = [name for name, spec in specs.items() if not recorded_of(spec).has(estimand.series)]
    if lacking:
        recorded = recorded_of(specs[lacking[0]])
        no, has = ("has no number for", "has a number for") if estimand.series in recorded.series else ("", "records")
        who = f"No arm {has}" if len(lacking) == len(specs) else f"{_listed(lacking)} {no or 'does not record'}"
        cure = recorded.cure(estimand.series)
        yield Fault(pointer, f"{who} {estimand.series}; {cure}", "no_such_series")
    elif estimand.over is not None:
        yield from _never_within(estimand.series, estimand.over, specs)
    if asked.tune and not data_shape(first.data).validation_examples:
        detail = (
            "Settings are chosen on validation data, and there are none; "
            'say data.validation in all specs, such as {"share": 0.2}, or leave tune out'
        )
        yield Fault("/tune", detail, "no_validation")


def _never_within(series: str, over: tuple[int, int], specs: Mapping[str, ExperimentSpec]) -> Iterator[Fault]:
    """A mean over steps of which none is looked at."""
    lacking = [name for name, spec in specs.items() if not recorded_of(spec).has_between(series, *over)]
    if lacking and over[1] <= min(map(steps_of, specs.values())):
        detail = f"{_listed(lacking)} measures {series} at no step from {over[0]} to {over[1]}"
        yield Fault("/estimand/over", f"{detail}; name a stretch in which it does", "never_measured")


def _untimed(asked: FreeComparison, specs: Mapping[str, ExperimentSpec]) -> Iterator[Fault]:
    """What depends on when arms are looked at needs them looked at at the same steps."""
    estimand, first = asked.estimand, specs[BASELINE]
    for name in asked.treatments if _is_of_a_course(asked) else ():
        here, there = specs[name].evaluation.every_steps, first.evaluation.every_steps
        if here != there:
            detail = f"The baseline is evaluated every {there} steps and this every {here}; give both the same"
            yield Fault(f"{_above(name)}/evaluation/every_steps", detail, "cadences_differ")
        if steps_of(specs[name]) != steps_of(first):
            detail = (
                f"The baseline has {steps_of(first):,} steps and this {steps_of(specs[name]):,}; "
                "give both the same train.steps"
            )
            yield Fault(f"{_above(name)}/train", detail, "budgets_differ")
    for name, spec in specs.items():
        if spec.train.target is not None and spec.train.target.stop:
            detail = "Would end runs before the steps that are compared; set it to false"
            yield Fault(f"{_above(name)}/train/target/stop", detail, "ends_early")
    if estimand.over is not None and estimand.over[1] > steps_of(first):
        yield Fault("/estimand/over/1", f"Runs have {steps_of(first):,} steps", "beyond_budget")


def _measured_apart(asked: FreeComparison, specs: Mapping[str, ExperimentSpec]) -> Iterator[Fault]:
    """A diagnostic has a cadence of its own, and measures before there is a step to be counted."""
    estimand = asked.estimand
    if not estimand.series.startswith(_DIAGNOSTICS):
        return
    if estimand.is_time:
        detail = (
            "Steps are counted by what training records, train/, validation/ or test/: a diagnostic measures before"
        )
        yield Fault("/estimand/target/metric", f"{detail} the first step, too; name one of those", "no_time")
        return
    kind = estimand.series.split("/")[1]
    when = {
        name: [(one.every_steps, one.at) for one in spec.diagnostics if one.kind == kind]
        for name, spec in specs.items()
    }
    for name in asked.treatments:
        if when[name] and when[BASELINE] and when[name] != when[BASELINE]:
            detail = f"The baseline measures {kind} at other steps; give both the same every_steps, or at"
            yield Fault(f"{_above(name)}/diagnostics", detail, "cadences_differ")


def _untrainable(asked: FreeComparison, baseline: ExperimentSpec) -> Iterator[Fault]:
    """What counts as trained has to be more than what takes no training."""
    if asked.trains_at is None:
        return
    nothing = ignorant(baseline)
    if nothing is None or asked.estimand.series.startswith(_DIAGNOSTICS):
        why = "a regression has no accuracy" if nothing is None else "a diagnostic asks for no training"
        yield Fault("/trains_at", f"Says nothing here: {why}; leave it out", "not_allowed")
    elif asked.trains_at <= nothing:
        detail = f"Who has learned nothing has {nothing:.3g}, by chance or by the commonest class; give more than that"
        yield Fault("/trains_at", detail, "no_training")


def _same(asked: FreeComparison, whole: Mapping[str, Mapping[str, Any]]) -> Iterator[Fault]:
    for place, name in enumerate(asked.treatments):
        for other in (BASELINE, *asked.treatments[:place]):
            paths = told_apart([whole[other], whole[name]]).paths
            if all(path.partition(".")[0] in _SAY_NOTHING_OF_RESULTS for path in paths):
                detail = f"Differs from {other} in nothing that could change a result; change it, or leave it out"
                yield Fault(_above(name), detail, "same_spec")
                break


def _untunable(
    asked: FreeComparison, specs: Mapping[str, ExperimentSpec], whole: Mapping[str, Mapping[str, Any]]
) -> Iterator[Fault]:
    for path in asked.tune:
        pointer = f"/tune{pointer_part(path)}"
        fixed = next((why for known, why in _FIXED.items() if is_within(path, known)), None)
        if fixed is not None:
            yield Fault(pointer, f"Cannot be tuned: {fixed}", "not_tunable")
            continue
        for name in specs:
            if not _is_leaf(whole[name], path):
                close = nearest(path, list(_leaves(whole[name])))
                cure = f"did you mean {close}?" if close else "paths are like optimizer.lr"
                yield Fault(pointer, f"Is no number or word of the spec {name}; {cure}", "no_such_path")
                break


def _invalid_settings(asked: FreeComparison, whole: Mapping[str, Mapping[str, Any]]) -> Iterator[Fault]:
    paths = list(asked.tune)
    values = [asked.values(path) for path in paths]
    for setting in itertools.product(*values) if paths else ():
        for name, document in whole.items():
            yield from _faults_at(asked, name, document, dict(zip(paths, setting, strict=True)))


def _faults_at(
    asked: FreeComparison, arm: str, whole: Mapping[str, Any], setting: Mapping[str, Any]
) -> Iterator[Fault]:
    try:
        spec = load_spec(_with(whole, setting))
    except SpecError as error:
        faults = error.faults
    else:
        faults = []
        if not recorded_of(spec).has(asked.estimand.series):
            detail = f"Would leave no number for {asked.estimand.series}, which is compared; leave it out"
            faults.append(Fault("", detail, "no_such_series"))
        if _is_of_a_course(asked) and steps_of(spec) != steps_of(load_spec(whole)):
            faults = [Fault("/train", f"Would have {steps_of(spec):,} steps, and others have not", "budgets_differ")]
    said = ", ".join(f"{path} = {value}" for path, value in setting.items())
    for fault in faults:
        within = fault.pointer.strip("/").replace("/", ".")
        path = next((path for path in setting if is_within(within, path)), next(iter(setting)))
        listed = asked.tune[path]
        place = f"/{listed.index(setting[path])}" if isinstance(listed, list) else ""
        detail = f"{fault.pointer or 'the spec'}: {fault.detail} ({arm} at {said})"
        yield Fault(f"/tune{pointer_part(path)}{place}", detail, fault.code)


def _with(whole: Mapping[str, Any], setting: Mapping[str, Any]) -> Any:
    document: Any = whole
    for path, value in setting.items():
        document = put(document, whole, path, value)
    return document


def _is_of_a_course(asked: FreeComparison) -> bool:
    """Whether it depends on when a run is looked at, and for how long."""
    return asked.estimand.is_time or asked.estimand.take != "final"


def _is_leaf(whole: Any, path: str) -> bool:
    """Whether it is a number or a word, below objects alone: a merge patch reaches into no list."""
    value = whole
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return not isinstance(value, Mapping | list)


def _leaves(value: Any, above: str = "") -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{above}{key}.")
        elif not isinstance(inner, list):
            yield f"{above}{key}"


def _above(arm: str) -> str:
    return f"/compare{pointer_part(arm)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
