"""What may not be meant of a study that was accepted."""

from typing import Any

from pydantic import Field

from api.shown.plans import SpecWarning, warnings_of
from api.shown.studies import StudyNow
from api.shown.waiting import Living
from bncore.spec import ExperimentSpec, Fault
from bncore.studies.asking import Asked
from bncore.studies.cautioned import beside_the_point, cautioned, places_tried
from store import tables
from store.studies import StudyStanding


class StudyWarning(SpecWarning):
    """Something that specs of a study say, and that may not be meant."""

    claim: str | None = Field(description="Of an article, in which of its parts; of a claim itself.")
    arm: str = Field(description="The first that it is of.")
    setting: dict[str, Any] = Field(description="At which it is of that, by paths of the spec.")
    places: int = Field(description="Of how many arms at settings, of those that are trained first.")
    of: int = Field(description="How many of these there are.")


class StudySubmitted(StudyNow):
    """A study as it was accepted."""

    warnings: list[StudyWarning] = Field(
        description="What may not be meant so; of equal ones the first is shown. No verdict takes notice of it."
    )

    @classmethod
    def accepted(
        cls, row: tables.Study, standing: StudyStanding, living: Living, warnings: list[StudyWarning]
    ) -> "StudySubmitted":
        return cls(**dict(StudyNow.seen(row, standing, living)), warnings=warnings)


def study_warnings(claim: str | None, asked: Asked, living: Living) -> list[StudyWarning]:
    """What is worth saying of the places that a study trains first. Raises `SpecError`."""
    but = beside_the_point(map(vars, asked.design.measures), asked.design.evaluations)

    def say(spec: ExperimentSpec) -> list[Fault]:
        return [Fault(one.pointer, one.detail, one.code) for one in warnings_of(spec, living)]

    return [
        StudyWarning(
            pointer=one.fault.pointer,
            detail=one.fault.detail,
            code=one.fault.code,
            claim=claim,
            arm=one.tried.arm,
            setting=dict(one.tried.setting),
            places=one.places,
            of=one.of,
        )
        for one in cautioned(places_tried(asked.design, asked.first), say, but)
    ]
