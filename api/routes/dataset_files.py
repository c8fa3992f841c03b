"""What an import has made: its report, its files, a picture of some images."""

import functools

from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from api.answers import answer
from api.deps import Admitted, Asked, DatasetId
from api.headers import if_none_match_parameter
from api.lanes import reading
from api.openapi import range_parameters
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.sending import Sent, file_responses, send
from api.shown.datasets import DatasetFiles
from store import files
from store.datasets import finding, uploads
from store.errors import FileNotFound

CONTACT_SHEET, REPORT = "contact.png", "report.json"


def mount(app: FastAPI) -> None:
    """Under a data set."""
    routes = KeyedRoutes(app, "/v1/datasets/{dataset_id}", "datasets")
    routes.add("/files", list_dataset_files, response_model=DatasetFiles, responses=declared(404), summary="Its files")
    headers = {"parameters": [if_none_match_parameter(), *range_parameters()]}
    for path, route, what in (
        ("/contact-sheet", download_contact_sheet, "A few of its images, as PNG"),
        ("/report", download_report, "What was found in it, as JSON"),
    ):
        routes.add(
            path,
            route,
            response_class=StreamingResponse,
            responses=file_responses(what),
            openapi_extra=headers,
            summary=what,
        )


@reading
def list_dataset_files(dataset_id: DatasetId, asked: Asked) -> Response:
    """Arrays in the .npy format, `dataset.json` that describes them, `report.json`, a contact sheet of images."""
    with asked.service.database.read() as session:
        finding.get(session, dataset_id, owner=asked.sees)
        rows = [row for row in files.of_job(session, dataset_id) if row.kind != uploads.PART]
    return answer(DatasetFiles.of(rows))


async def download_contact_sheet(dataset_id: DatasetId, asked: Asked) -> Response:
    """Only images have one."""
    return await _sent(asked, dataset_id, CONTACT_SHEET, "image/png")


async def download_report(dataset_id: DatasetId, asked: Asked) -> Response:
    """What was found, converted and left out; the same as `report` of the data set, as a file."""
    return await _sent(asked, dataset_id, REPORT, "application/json")


async def _sent(asked: Admitted, dataset_id: str, name: str, media_type: str) -> Response:
    file = await asked.service.reads.run(functools.partial(_find, asked, dataset_id, name))
    response = await send(asked, file)
    if response.status_code != 304:
        response.headers["Content-Type"] = media_type
    return response


def _find(asked: Admitted, dataset_id: str, name: str) -> Sent:
    with asked.service.database.read() as session:
        finding.get(session, dataset_id, owner=asked.sees)
        rows = [row for row in files.of_job(session, dataset_id) if row.kind != uploads.PART and row.name == name]
    if not rows:
        raise FileNotFound(dataset_id)
    return Sent(rows[0].id, rows[0].name, rows[0].size, rows[0].sha256)
