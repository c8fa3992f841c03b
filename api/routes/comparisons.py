"""Experiments side by side: a table by what differs between their specs."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.bodies import body
from api.deps import Asked
from api.filters import FilterQuery
from api.lanes import reading_long
from api.openapi import request_body
from api.problems import declared
from api.refusals import InvalidBody
from api.routes.keyed import KeyedRoutes
from api.shown.comparisons import Compared
from bncore.comparison import MeasureUnknown, Run, SortUnknown, compare, in_order, measures, usual_measures
from bncore.comparison.measure import series_key
from bncore.spec import Fault
from bncore.spec.limits import METRIC_KEY_CHARS
from bncore.spec.strict import SpecModel, Text
from store import experiments
from store.experiments import MOST_COMPARED

_USUAL = frozenset({"test/accuracy", "test/loss"})
_Id = Annotated[str, Field(pattern="^exp_[0-9a-f]{32}$")]
_Name = Annotated[Text, Field(min_length=1, max_length=METRIC_KEY_CHARS + 8)]


class ComparisonRequest(SpecModel):
    """What is compared: experiments by their ids, or all with some tags or a name."""

    experiments: list[_Id] = Field(default_factory=list, max_length=MOST_COMPARED)
    tags: list[Annotated[Text, Field(min_length=1, max_length=64 + 1 + 512)]] = Field(
        default_factory=list, max_length=16, description="`key:value`, or `key` alone for any value; all must hold."
    )
    name: Annotated[Text, Field(max_length=200)] | None = Field(default=None, description="The whole name.")
    measures: list[_Name] = Field(
        default_factory=list,
        max_length=16,
        description="Keys of series, for their last values; `:min`, `:max`, `:first` behind one for others; `best`, "
        "`steps_to_target`, `seconds`. Without any: the last accuracy of the test data (of a regression the loss), the "
        "best, and the steps to the target where there is one.",
    )
    sort: Annotated[Text, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="A measure or a path; a minus before it sorts downwards. Else the best come first."
    )


def mount(app: FastAPI) -> None:
    """`/comparisons`."""
    routes = KeyedRoutes(app, "/v1", "results")
    routes.add(
        "/comparisons",
        compare_experiments,
        methods=["POST"],
        response_model=Compared,
        responses=declared(404, 413, 415),
        openapi_extra=request_body(ComparisonRequest),
        summary="Experiments side by side",
    )


@reading_long
def compare_experiments(
    asked: Asked, wanted: Annotated[ComparisonRequest, Depends(body(ComparisonRequest))]
) -> Response:
    """Mean and deviation over seeds, grouped by what differs between the specs; stores nothing, and needs `read`.

    What diverged, did not reach its target or has not ended is counted beside a mean and never in it. At most 500.
    """
    keys = {series_key(name) for name in wanted.measures} or _USUAL
    with asked.service.database.read() as session:
        ids = _ids(asked, session, wanted)
        runs = experiments.compared(session, ids, keys, owner=asked.sees)
        # The usual ones are there as soon as something is evaluated, and of nothing anything may be asked.
        known = keys if not wanted.measures or not runs else {key for run in runs for key in run.series}
        try:
            chosen = measures(wanted.measures or usual_measures(runs), known)
        except MeasureUnknown as error:
            every = experiments.compared(session, ids, None, owner=asked.sees)
            raise _unknown(wanted, error.name, every) from None
    comparison = compare(runs, chosen)
    try:
        groups = in_order(comparison, wanted.sort)
    except SortUnknown as error:
        raise InvalidBody([Fault("/sort", str(error), "unknown_name")]) from None
    return answer(Compared.of(comparison, groups))


def _ids(asked: Asked, session: Session, wanted: ComparisonRequest) -> list[str]:
    by_filter = bool(wanted.tags) or wanted.name is not None
    if by_filter == bool(wanted.experiments):
        detail = "Give ids here, or tags or a name beside it" + (", not both" if by_filter else "")
        raise InvalidBody([Fault("/experiments", detail, "not_allowed" if by_filter else "missing")])
    if not by_filter:
        return wanted.experiments
    filters = FilterQuery(tag=wanted.tags, name=wanted.name).filters(asked.sees)
    found = [] if filters is None else experiments.ids(session, filters, MOST_COMPARED + 1)
    if len(found) > MOST_COMPARED:
        pointer = "/tags" if wanted.tags else "/name"
        raise InvalidBody([Fault(pointer, f"More than {MOST_COMPARED} are found; narrow it by a tag", "too_many")])
    return found


def _unknown(wanted: ComparisonRequest, name: str, runs: Sequence[Run]) -> InvalidBody:
    detail = str(MeasureUnknown(name, {key for run in runs for key in run.series}))
    return InvalidBody([Fault(f"/measures/{wanted.measures.index(name)}", detail, "unknown_name")])
