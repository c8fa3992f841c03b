"""Finding data sets of one's own, deleting them."""

import functools
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.acting import by
from api.answers import answer
from api.deps import Asked, DatasetId, living_lately
from api.headers import if_match_parameter, if_none_match_parameter, job_headers, none_match
from api.lanes import reading, writing
from api.long_poll import Found, WaitQuery, found_in_time
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.service import ApiService
from api.shown import Page, utc
from api.shown.datasets import UPLOADING, Dataset, DatasetNow, UploadPart, UploadParts
from api.shown.waiting import Living
from store import tables
from store.datasets import changing, finding, uploads
from store.errors import CursorInvalid, DatasetNotFound
from store.jobs.states import TERMINAL, State

States = Literal["uploading", "queued", "running", "paused", "succeeded", "failed", "cancelled"]


class DatasetsQuery(Parameters):
    state: States | None = Field(default=None, description="Those that are uploaded yet are listed by themselves.")
    limit: int = Field(default=20, ge=1, le=finding.MAX_PAGE)
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="`next_cursor` of the page before, with the same filters."
    )


def mount(app: FastAPI) -> None:
    """`/datasets`, one of them, and what is asked of it."""
    routes = KeyedRoutes(app, "/v1/datasets", "datasets")
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    only_if = {"parameters": [if_match_parameter()]}
    routes.add("", list_datasets, response_model=Page[Dataset], summary="Find them")
    routes.add(
        "/{dataset_id}",
        get_dataset,
        response_model=DatasetNow,
        responses={**unchanged, **declared(404)},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="One of them, at once or on change",
    )
    routes.add(
        "/{dataset_id}",
        delete_dataset,
        methods=["DELETE"],
        status_code=204,
        responses=declared(404, 409, 412),
        openapi_extra=only_if,
        summary="Delete it with all its files",
    )


@living_lately
@reading
def list_datasets(
    asked: Asked, query: Annotated[DatasetsQuery, Depends(Reading(DatasetsQuery))], living: Living
) -> Response:
    """Newest first, in pages. `GET /v1/data` lists what is built in."""
    with asked.service.database.read() as session:
        if query.state == UPLOADING:
            if query.cursor is not None:
                raise CursorInvalid
            shown = [Dataset.uploading(row) for row in uploads.page(session, asked.sees, finding.MAX_PAGE)]
            return answer(Page[Dataset](data=shown, has_more=False, next_cursor=None))
        state = None if query.state is None else State(query.state)
        found = finding.page(session, asked.sees, state, query.cursor, query.limit)
    shown = [Dataset.of(row, living) for row in found.rows]
    return answer(Page[Dataset](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))


@living_lately
async def get_dataset(
    dataset_id: DatasetId, asked: Asked, query: Annotated[WaitQuery, Depends(Reading(WaitQuery))], living: Living
) -> Response:
    """State, report, classes; while it is uploaded, the parts that are there."""
    return await found_in_time(asked, dataset_id, functools.partial(_read, asked, dataset_id, living), query.wait)


@writing
def delete_dataset(dataset_id: DatasetId, asked: Asked) -> Response:
    """At the end of its import, or while it is uploaded. 409 while anything reads it that is not deleted: `used_by`."""
    with asked.service.database.write() as session:
        try:
            changing.delete(session, dataset_id, by(asked))
        except DatasetNotFound:
            uploads.give_up(session, dataset_id, owner=asked.sees)
    return Response(status_code=204)


def parts_of(service: ApiService, upload: tables.Upload, rows: list[tables.UploadPart]) -> UploadParts:
    """What is there of an upload, and what it may have."""
    settings = service.settings
    return UploadParts(
        data=[UploadPart.of(row) for row in rows],
        part_max_bytes=settings.max_part_bytes,
        upload_max_bytes=settings.max_upload_bytes,
        expires_at=utc(upload.expires_at),
    )


def _read(asked: Asked, dataset_id: str, living: Living) -> Found:
    with asked.service.database.read() as session:
        try:
            row = finding.get(session, dataset_id, owner=asked.sees)
        except DatasetNotFound:
            upload = uploads.get(session, dataset_id, owner=asked.sees)
            if upload.dataset_id is None:
                parts = parts_of(asked.service, upload, uploads.parts(session, upload.id))
                shown = DatasetNow.uploaded_to(upload, parts)
                # Waiting would be for nothing but its sender.
                return Found(0, True, answer(shown, headers={"Cache-Control": "no-cache"}))
            row = finding.get(session, upload.dataset_id, owner=asked.sees)
    headers = job_headers(row)
    is_terminal = row.state in TERMINAL
    if none_match(asked.request, headers["ETag"]):
        return Found(row.version, is_terminal, Response(status_code=304, headers=headers))
    return Found(row.version, is_terminal, answer(DatasetNow.seen(row, living), headers=headers))
