"""What a study came to: its verdicts, and the report that is made of them beside this process."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.aside.pool import Work
from api.deps import Asked, StudyId
from api.lanes import reading
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.figures import PAGE_POLICY
from api.routes.keyed import KeyedRoutes
from api.shown.studies import StudyVerdict
from api.studying import report_document
from store import studies

_JSON, _PAGE = "bncore.studies.asked:report_json", "bncore.studies.asked:report_page"


class VerdictQuery(Parameters):
    number: int | None = Field(
        default=None, ge=1, lt=2**31, description="As it was judged for that time; the last unless said."
    )


def mount(app: FastAPI) -> None:
    """Under a study."""
    routes = KeyedRoutes(app, "/v1/studies/{study_id}", "studies")
    routes.add(
        "/verdict",
        get_study_verdict,
        response_model=StudyVerdict,
        responses=declared(404, 409),
        summary="What was judged",
    )
    routes.add(
        "/report",
        get_study_report,
        response_class=Response,
        responses={**_made("application/json", {"type": "object"}), **declared(404, 409)},
        summary="The report as JSON",
    )
    routes.add(
        "/report.html",
        get_study_page,
        response_class=Response,
        responses={**_made("text/html", {"type": "string"}), **declared(404, 409)},
        summary="The report as a page",
    )


@reading
def get_study_verdict(
    study_id: StudyId, asked: Asked, query: Annotated[VerdictQuery, Depends(Reading(VerdictQuery))]
) -> Response:
    """The outcome of every question with effect, interval, guards and looks, and the rows that were judged.

    409 before there is one.
    """
    with asked.service.database.read() as session:
        studies.get(session, study_id, owner=asked.sees)
        found = studies.verdict(session, study_id, query.number)
    return answer(StudyVerdict.of(found))


async def get_study_report(study_id: StudyId, asked: Asked) -> Response:
    """Question, verdict, figures, tables, literature, guards, specs, versions, seeds and cost; made of what is stored.

    409 before there is a verdict.
    """
    return Response(await _report(asked, study_id, _JSON), media_type="application/json")


async def get_study_page(study_id: StudyId, asked: Asked) -> Response:
    """The same as one page that needs nothing from elsewhere."""
    headers = {
        "Content-Disposition": f'inline; filename="{study_id}.html"',
        "Content-Security-Policy": PAGE_POLICY,
    }
    return Response(await _report(asked, study_id, _PAGE), media_type="text/html", headers=headers)


async def _report(asked: Asked, study_id: str, function: str) -> bytes:
    def find() -> dict[str, Any]:
        with asked.service.database.read() as session:
            return report_document(session, studies.get(session, study_id, owner=asked.sees))

    async def prepare() -> Work:
        return Work(await asked.service.reads.run(find))

    # Before a place in the line is taken: most refusals need none.
    await asked.service.reads.run(find)
    return await asked.service.aside.run(asked.request, asked.caller.owner, function, prepare)


def _made(media: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "The report", "content": {media: {"schema": schema}}}}
