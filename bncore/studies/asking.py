"""From what is asked for (`bncore.spec.study`) to a claim, its design, and specs that can be trained.

Invariant: what is refused is refused before anything is stored, with a pointer into what was sent; what was accepted
comes to the same design whenever it is asked for again, or `fingerprint_of` says that it does not.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncore.spec import ExperimentSpec, Fault, SpecError, load_spec
from bncore.spec.recorded import recorded_of
from bncore.spec.study import ARTICLE, StudySpec
from bncore.spec.wording import nearest
from bncore.studies.claim import Batch, Claim, Design, Experiment, Scale, ScaleMissing, experiments
from bncore.studies.claims import CLAIMS
from bncore.studies.comparing import Comparison, compared
from bncore.studies.guards import SEEDS_FLOOR
from bncore.studies.overriding import require_fitting
from bncore.studies.results import Results

SCALE: Scale = "cpu"
MOST_EXPERIMENTS = 10_000
"""Of one batch."""
Complete = Callable[[Any], Any]
"""Completes a document that names a data set of its owner."""


@dataclass(frozen=True)
class Asked:
    """A question as it will be answered."""

    claim: Claim
    design: Design

    @property
    def first(self) -> Batch:
        """What is run first."""
        batch = self.claim.next_step(self.design, Results())
        assert isinstance(batch, Batch)
        return batch


def claims_of(spec: StudySpec) -> dict[str, StudySpec]:
    """The studies that an article is made of, by their claims: those that have a design of the scale."""
    scale = spec.scale or SCALE
    return {
        name: StudySpec(claim=name, scale=scale, name=spec.name, tags=spec.tags)
        for name, claim in CLAIMS.items()
        if has_scale(claim, scale)
    }


def has_scale(claim: Claim, scale: Scale) -> bool:
    """Whether a claim has a design of it."""
    try:
        claim.design(scale)
    except ScaleMissing:
        return False
    return True


def asked_of(document: Mapping[str, Any], extensions: Sequence[int] = ()) -> Asked:
    """The claim and the design of a stored document, with the extensions that it has had. Raises `SpecError`."""
    spec = StudySpec.model_validate(document)
    claim = _claim(spec)
    design = _design(spec, claim)
    return Asked(claim, dataclasses.replace(design, extensions=tuple(extensions)))


def checked(spec: StudySpec, complete: Complete) -> tuple[StudySpec, Asked]:
    """The study with all that its data sets say, and what it comes to: every place of its first batch can be trained.

    Raises `SpecError`.
    """
    if spec.compare is not None:
        comparison = _compared(spec, complete)
        spec = spec.model_copy(update={"compare": comparison.asked.compare})
        return spec, Asked(comparison, _design(spec, comparison))
    spec = _completed(spec, complete)
    claim = _claim(spec)
    if spec.overrides:
        _require_fitting_overrides(spec, claim)
    _require_enough_seeds(spec, claim)
    asked = Asked(claim, _design(spec, claim))
    batch = asked.first
    if len(batch.places) * len(batch.seeds) > MOST_EXPERIMENTS:
        detail = f"Comes to more than {MOST_EXPERIMENTS:,} experiments at once; ask for fewer"
        raise SpecError([Fault("/seeds", detail, "too_many_experiments")])
    one_seed = dataclasses.replace(batch, seeds=batch.seeds[:1])
    specs = specs_of(experiments(asked.design, one_seed), "/overrides")
    _require_measured(asked.design, specs)
    return spec, asked


def _compared(spec: StudySpec, complete: Complete) -> Comparison:
    """What is wrong with delta or seeds is said together with what is wrong with the specs."""
    faults = spec.faults_of_comparison()
    if not faults:
        return compared(spec.comparison, complete)
    try:
        compared(spec.comparison_but_for_numbers(), complete)
    except SpecError as error:
        faults += error.faults
    raise SpecError(faults)


def specs_of(each: Sequence[Experiment], above: str = "") -> list[ExperimentSpec]:
    """The complete specs of experiments. Raises `SpecError`, with `above` before its pointers."""
    found = []
    for one in each:
        try:
            found.append(load_spec(one.spec))
        except SpecError as error:
            said = _place(one)
            faults = [Fault(above + fault.pointer, f"{said}: {fault.detail}", fault.code) for fault in error.faults]
            raise SpecError(faults) from None
    return found


def fingerprint_of(design: Design) -> str:
    """Of a design without its extensions: another one answers another question."""
    text = json.dumps(_told(dataclasses.replace(design, extensions=())), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def document_of(design: Design) -> dict[str, Any]:
    """A design as JSON."""
    told = _told(design)
    assert isinstance(told, dict)
    return told


def _claim(spec: StudySpec) -> Claim:
    if spec.compare is not None:
        return Comparison(spec.comparison)
    claim = CLAIMS.get(spec.claim or "")
    if claim is None:
        close = nearest(spec.claim or "", (*CLAIMS, ARTICLE))
        meant = f"; did you mean {close}?" if close else ""
        detail = f"There is no such claim{meant} Those that there are: {', '.join((*CLAIMS, ARTICLE))}"
        raise SpecError([Fault("/claim", detail, "unknown_claim")])
    return claim


def _design(spec: StudySpec, claim: Claim) -> Design:
    try:
        return claim.design(spec.scale or SCALE, spec.seeds, spec.overrides or None)
    except ScaleMissing as error:
        there = [scale for scale in ("tiny", "cpu", "gpu") if has_scale(claim, scale)]
        detail = f"{str(error)[:1].upper()}{str(error)[1:]}; it has {', '.join(there)}"
        raise SpecError([Fault("/scale", detail, "no_such_scale")]) from None


def _completed(spec: StudySpec, complete: Complete) -> StudySpec:
    overrides = spec.overrides
    if "data" in overrides:
        with _below("/overrides"):
            overrides = {**overrides, **complete({"data": overrides["data"]})}
    return spec.model_copy(update={"overrides": overrides})


def _require_enough_seeds(spec: StudySpec, claim: Claim) -> None:
    """A claim that takes fewer by itself, because its effect is exact, or to show that it runs, may have as few."""
    if spec.seeds is None:
        return
    floor = min(SEEDS_FLOOR, _design(spec.model_copy(update={"seeds": None}), claim).seeds)
    if spec.seeds < floor:
        detail = f"With fewer than {floor} seeds no verdict can be given; ask for {floor} or more, or leave it out"
        raise SpecError([Fault("/seeds", detail, "too_few_seeds")])


def _require_measured(design: Design, specs: Sequence[ExperimentSpec]) -> None:
    """A measure may be of some arms alone, and of none it is no use."""
    for measure in design.measures:
        if not any(recorded_of(spec).has(measure.series) for spec in specs):
            said = f"Training would leave no number for {measure.series}, by which the claim is judged"
            detail = f"{said}; leave that as it is"
            raise SpecError([Fault("/overrides", detail, "not_measured")])


def _require_fitting_overrides(spec: StudySpec, claim: Claim) -> None:
    """Before the design is made with them: a claim reads its template."""
    design = _design(spec.model_copy(update={"overrides": {}}), claim)
    varied = {path for place in Asked(claim, design).first.places for path, _ in place.setting}
    require_fitting(design, varied, spec.overrides)


def _place(one: Experiment) -> str:
    at = ", ".join(f"{path} = {value}" for path, value in one.place.setting)
    return f"In the arm {one.place.arm}{f' at {at}' if at else ''}"


class _below:
    """Faults of what is inside, with a pointer before theirs."""

    def __init__(self, above: str) -> None:
        self._above = above

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        if isinstance(error, SpecError):
            faults = [Fault(self._above + fault.pointer, fault.detail, fault.code) for fault in error.faults]
            raise SpecError(faults) from None


def _told(value: Any) -> Any:
    """As JSON; a dataclass by the fields by which it is compared and the name of its class, so that two measures are
    told apart."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {each.name: _told(getattr(value, each.name)) for each in dataclasses.fields(value) if each.compare}
        left_out = {each.name for each in dataclasses.fields(value) if each.metadata.get("told_where_said")}
        said = {name: inner for name, inner in fields.items() if inner is not None or name not in left_out}
        return {"is": type(value).__name__, **said}
    if isinstance(value, Mapping):
        return {str(key): _told(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_told(inner) for inner in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)
