"""Any file by its id: what it is, and its bytes. To an owner there are those of that owner."""

import functools

from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from api.answers import answer
from api.deps import Admitted, Asked, FileId
from api.headers import if_none_match_parameter
from api.lanes import reading
from api.openapi import range_parameters
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.sending import Sent, file_responses, send
from api.shown.files import File
from store import files


def mount(app: FastAPI) -> None:
    """Under /v1/files."""
    routes = KeyedRoutes(app, "/v1/files/{file_id}", "files")
    routes.add("", get_file, response_model=File, responses=declared(404), summary="One file")
    routes.add(
        "/content",
        download_file,
        response_class=StreamingResponse,
        responses=file_responses("The file"),
        openapi_extra={"parameters": [if_none_match_parameter(), *range_parameters()]},
        summary="Its bytes",
    )


@reading
def get_file(file_id: FileId, asked: Asked) -> Response:
    """Name, kind, size, digest, and the job it belongs to."""
    with asked.service.database.read() as session:
        return answer(File.of(files.get(session, file_id, owner=asked.sees)))


async def download_file(file_id: FileId, asked: Asked) -> Response:
    """The bytes, whole or in part; 410 when what is stored is damaged.

    What is stored has been compared with `sha256`; compare with it what arrives.
    """
    return await send(asked, await asked.service.reads.run(functools.partial(_find, asked, file_id)))


def _find(asked: Admitted, file_id: str) -> Sent:
    with asked.service.database.read() as session:
        row = files.get(session, file_id, owner=asked.sees)
    return Sent(row.id, row.name, row.size, row.sha256)
