"""What a study is asked to be: a claim of the article, all of them, or networks of one's own side by side.

Invariant: only the form is judged here. Whether there is such a claim, whether specs can be compared, and what the
experiments come to, is for `bncore.studies.asking`.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.experiment import TagKey, TagValue
from bncore.spec.faults import Fault, SpecError, faults_of
from bncore.spec.free_comparison import (
    MOST_ARMS,
    MOST_AXES,
    NUMBERS,
    ArmName,
    EstimandSpec,
    FreeComparison,
    MarginKind,
    Values,
    load_comparison,
    sound_in_numbers,
)
from bncore.spec.limits import NAME_CHARS, TAGS
from bncore.spec.strict import SpecModel, Text
from bncore.spec.sweep.paths import Path

ARTICLE = "article"
"""In the place of a claim: all of them, in one report."""
OWN_TAGS = ("study", "stage", "arm")
"""That its experiments have besides."""
MOST_SEEDS = 1000
_OF_A_COMPARISON = ("estimand", "delta", "margin", "trains_at", "tune", "tuning_seeds")


class StudySpec(SpecModel):
    """A question: of the article, or of one's own."""

    name: Annotated[Text, Field(max_length=NAME_CHARS)] | None = Field(
        default=None, description="For people; need not be unique."
    )
    tags: Annotated[dict[TagKey, TagValue], Field(max_length=TAGS - len(OWN_TAGS))] = Field(
        default_factory=dict, description="Its experiments have them, too, beside study, stage and arm."
    )
    claim: Annotated[Text, Field(max_length=64)] | None = Field(
        default=None, description="By its name, as GET /v1/claims lists them; article: all of them, in one report."
    )
    scale: Literal["tiny", "cpu", "gpu"] | None = Field(
        default=None,
        description="Of a claim. cpu decides in minutes, and is the default; gpu is near the papers' sizes; tiny only "
        "shows that it runs.",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="Of a claim: a merge patch (RFC 7396) of the spec that all its arms share."
    )
    compare: Annotated[dict[ArmName, dict[str, Any]], Field(max_length=MOST_ARMS)] | None = Field(
        default=None,
        description='In the place of a claim, specs of experiments by name. One is called "baseline"; each of the '
        "others is compared with it.",
    )
    estimand: EstimandSpec | None = Field(default=None, description="Of `compare`; test/accuracy unless said.")
    delta: Annotated[float, Field(le=1e9)] | None = Field(
        default=None, description=f"Of `compare`. {FreeComparison.model_fields['delta'].description}"
    )
    margin: MarginKind | None = Field(
        default=None, description=f"Of `compare`. {FreeComparison.model_fields['margin'].description}"
    )
    trains_at: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description=f"Of `compare`. {FreeComparison.model_fields['trains_at'].description}"
    )
    tune: Annotated[dict[Path, Values], Field(max_length=MOST_AXES)] = Field(
        default_factory=dict, description=f"Of `compare`. {FreeComparison.model_fields['tune'].description}"
    )
    tuning_seeds: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Of `compare`: of each setting that is tried; 3 unless said."
    )
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] | None = Field(
        default=None, description="How many; as many as the effect is expected to take unless said. Six are the floor."
    )

    @model_validator(mode="after")
    def _is_one_question(self) -> "StudySpec":
        faults = list(self._faults())
        if faults:
            listed = [(fault.pointer, fault.detail, fault.code) for fault in faults]
            raise PydanticCustomError("cross_field", "parts of the study do not fit together", {"faults": listed})
        return self

    @property
    def comparison(self) -> FreeComparison:
        """What is compared. Raises `SpecError`."""
        document = self.model_dump(mode="json", include=set(FreeComparison.model_fields))
        return load_comparison({name: value for name, value in document.items() if value is not None})

    def faults_of_comparison(self) -> list[Fault]:
        """What is wrong with it before its specs are looked at."""
        try:
            _ = self.comparison
        except SpecError as error:
            return error.faults
        return []

    def comparison_but_for_numbers(self) -> FreeComparison:
        """What is compared, with any delta and number of seeds. Raises `SpecError`."""
        document = self.model_dump(mode="json", include=set(FreeComparison.model_fields))
        return load_comparison(sound_in_numbers({k: value for k, value in document.items() if value is not None}))

    def _faults(self) -> Iterator[Fault]:
        for key in sorted(set(OWN_TAGS) & set(self.tags)):
            yield Fault(f"/tags/{key}", "Is set by the study itself; call it otherwise", "set_by_study")
        yield from self._of_its_kind()

    def _of_its_kind(self) -> Iterator[Fault]:
        if (self.claim is None) == (self.compare is None):
            yield Fault("/claim", "Give either a claim, or specs to `compare`", "one_of_two")
        elif self.compare is not None:
            yield from self._misplaced("scale", "overrides", of="a claim")
            faults = self.faults_of_comparison()
            # Numbers alone are refused by `studies.asking.checked`, together with what is wrong with the specs.
            yield from faults if any(fault.pointer not in NUMBERS for fault in faults) else ()
        else:
            yield from self._misplaced(*_OF_A_COMPARISON, of="a comparison")
            if self.claim == ARTICLE:
                yield from self._misplaced("overrides", "seeds", of="one claim; extend a part of the article instead")

    def _misplaced(self, *fields: str, of: str) -> Iterator[Fault]:
        for field in fields:
            if getattr(self, field):
                yield Fault(f"/{field}", f"Is for {of}", "not_allowed")


class StudyExtension(SpecModel):
    """More seeds of a study that has been judged; it is judged again, and that counts as a look."""

    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = Field(description="How many more.")


def load_study(value: Any) -> StudySpec:
    """The study of a parsed document. Raises `SpecError`."""
    try:
        return StudySpec.model_validate(value)
    except ValidationError as error:
        raise SpecError(faults_of(error, StudySpec)) from None
