"""Bringing data in: an upload is begun, sent part by part, completed."""

import functools
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI, Path
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.bodies import body
from api.dataset_body import CompleteBody, DatasetBody
from api.deps import Asked, DatasetId, living_now
from api.headers import idempotency_key, job_headers
from api.lanes import reading
from api.openapi import dataset_body, idempotency_parameter, part_body, request_body
from api.problems import declared
from api.receiving import Receiving, announced
from api.routes.datasets import parts_of
from api.routes.keyed import KeyedRoutes
from api.shown.datasets import CompletedDataset, DatasetNow, UploadParts
from api.shown.waiting import Living, device_lives
from store.datasets import completing, finding, uploads
from store.datasets.completing import Completed, Whole
from store.errors import FileDamaged, FileNotFound
from store.tables import Dataset, Upload, UploadPart
from store.upload_errors import PartsChanged, PartsMissing, UploadCompleted, UploadTooLarge

_LOG = structlog.get_logger("api")
Number = Annotated[int, Path(ge=1, le=uploads.MOST_PARTS)]


def mount(app: FastAPI) -> None:
    """Under `/datasets`."""
    routes = KeyedRoutes(app, "/v1/datasets", "datasets")
    there: dict[int | str, dict[str, Any]] = {200: {"model": CompletedDataset, "description": "It is there already"}}
    imported: dict[int | str, dict[str, Any]] = {202: {"model": CompletedDataset, "description": "It is imported"}}
    routes.add(
        "",
        begin_upload,
        methods=["POST"],
        status_code=201,
        response_model=DatasetNow,
        responses={**there, **imported, **declared(400, 413, 415)},
        openapi_extra={**dataset_body(), "parameters": [idempotency_parameter()]},
        summary="Begin to bring one in",
    )
    routes.add(
        "/{dataset_id}/parts",
        list_parts,
        response_model=UploadParts,
        responses=declared(404, 409),
        summary="What is there of an upload",
    )
    routes.add(
        "/{dataset_id}/parts/{number}",
        store_part,
        methods=["PUT"],
        status_code=204,
        responses=declared(400, 404, 409, 411, 413),
        openapi_extra=part_body(),
        summary="Send a part of it",
    )
    routes.add(
        "/{dataset_id}/complete",
        complete_upload,
        methods=["POST"],
        status_code=202,
        response_model=CompletedDataset,
        responses={**there, **declared(404, 409, 413, 415)},
        openapi_extra=request_body(CompleteBody),
        summary="All of it is there: import it",
    )


@living_now
async def begin_upload(
    asked: Asked, wanted: Annotated[DatasetBody, Depends(body(DatasetBody))], living: Living
) -> Response:
    """201: send the parts, then complete it. 200 where its `sha256` says that it is there already.

    With `huggingface` nothing is sent: 202, and a worker fetches it.
    """
    service = asked.service
    if wanted.file_size is not None and wanted.file_size > service.settings.max_upload_bytes:
        raise UploadTooLarge(service.settings.max_upload_bytes)
    key = idempotency_key(asked.request)
    begin = functools.partial(_begin, asked, wanted, key, _device(living), living)
    return await service.writes.run(begin)


@reading
def list_parts(dataset_id: DatasetId, asked: Asked) -> Response:
    """An upload that was cut off goes on with those that are not among these."""
    with asked.service.database.read() as session:
        upload = uploads.get(session, dataset_id, owner=asked.sees)
        rows = uploads.parts(session, upload.id)
    return answer(parts_of(asked.service, upload, rows))


async def store_part(dataset_id: DatasetId, number: Number, asked: Asked) -> Response:
    """Its bytes, with `Content-Length` and `Content-Digest: sha-256=:...:`. Sent again, it replaces what was there.

    Parts are numbered from 1 and put together in that order; each but the last may have any size up to the limit.
    """
    part = announced(asked.request, number, asked.service.settings.max_part_bytes)
    await Receiving(asked, dataset_id, part).store()
    return Response(status_code=204)


@living_now
async def complete_upload(
    dataset_id: DatasetId, asked: Asked, meant: Annotated[CompleteBody, Depends(body(CompleteBody))], living: Living
) -> Response:
    """202: its import is queued. 200 where the same file, to be read in the same way, is there already.

    409 while parts are missing, 422 where they are, put together, not what `sha256` says. A repeat changes nothing.
    """
    try:
        completed = await _completed(asked, dataset_id, meant.sha256, _device(living))
    except (UploadCompleted, PartsChanged) as meanwhile:
        # Somebody else may have completed it, and what its parts became is the answer to all.
        completed = await asked.service.reads.run(functools.partial(_came_to, asked, dataset_id, meanwhile))
    return await asked.service.reads.run(functools.partial(_show, asked, completed, living))


async def _completed(asked: Asked, dataset_id: str, sha256: str, device: str) -> Completed:
    service = asked.service
    upload, rows = await service.reads.run(functools.partial(_uploaded, asked, dataset_id))
    if upload.dataset_id is not None:
        return _known(upload, upload.dataset_id)
    completing.require_all(rows)
    whole = await _put_together(asked, upload, rows)
    completed = await service.writes.run(functools.partial(_complete, asked, upload, whole, sha256, device))
    _LOG.info("upload_completed", dataset_id=completed.dataset_id, already_there=completed.already_there)
    return completed


def _came_to(asked: Asked, dataset_id: str, meanwhile: UploadCompleted | PartsChanged) -> Completed:
    """What an upload is by now; raises `meanwhile` where it is still one."""
    upload, _ = _uploaded(asked, dataset_id)
    if upload.dataset_id is None:
        raise meanwhile
    return _known(upload, upload.dataset_id)


def _known(upload: Upload, dataset_id: str) -> Completed:
    return Completed(dataset_id, dataset_id != upload.id)


def _begin(asked: Asked, wanted: DatasetBody, key: str | None, device: str, living: Living) -> Response:
    service, caller, meant = asked.service, asked.caller, wanted.wanted()
    with service.database.write() as session:
        if wanted.sha256 is not None:
            known = completing.same(session, caller.owner, wanted.sha256, meant.fingerprint)
            if known is not None:
                return _shown(finding.get(session, known, owner=caller.owner), True, living)
        upload = uploads.begin(session, meant, owner=caller.owner, key_id=caller.id, idempotency_key=key)
        if wanted.huggingface is not None and upload.dataset_id is None:
            completing.enter_by_reference(session, upload, device=device, limits=service.limits)
        if upload.dataset_id is not None or wanted.huggingface is not None:
            row = finding.get(session, upload.dataset_id or upload.id, owner=caller.owner)
            return _shown(row, wanted.huggingface is None, living)
        parts = parts_of(service, upload, uploads.parts(session, upload.id))
    shown = DatasetNow.uploaded_to(upload, parts)
    return answer(shown, 201, {"Location": shown.links.self_})


def _uploaded(asked: Asked, dataset_id: str) -> tuple[Upload, list[UploadPart]]:
    with asked.service.database.read() as session:
        upload = uploads.get(session, dataset_id, owner=asked.sees)
        return upload, uploads.parts(session, dataset_id)


async def _put_together(asked: Asked, upload: Upload, rows: list[UploadPart]) -> Whole:
    """Read all that is stored, each chunk in a turn of its own.

    Raises `PartsChanged` where a part is gone meanwhile, and `PartsMissing` where one is damaged: send it again.
    """
    steps = completing.put_together(asked.service.database, rows)
    while True:
        try:
            whole: Whole = await asked.service.chunk_reads.run(functools.partial(next, steps))
        except FileNotFound:
            raise PartsChanged from None
        except FileDamaged as damaged:
            lose = functools.partial(_lose_part, asked, upload, damaged.file_id)
            numbers = await asked.service.writes.run(lose)
            raise PartsMissing(numbers, len(numbers)) if numbers else PartsChanged() from None
        if whole.sha256:
            return whole


def _lose_part(asked: Asked, upload: Upload, file_id: str) -> list[int]:
    with asked.service.database.write() as session:
        return uploads.lose_part(session, upload.id, file_id, owner=upload.owner)


def _complete(asked: Asked, upload: Upload, whole: Whole, sha256: str, device: str) -> Completed:
    with asked.service.database.write() as session:
        return completing.complete(session, upload, whole, sha256, device=device, limits=asked.service.limits)


def _show(asked: Asked, completed: Completed, living: Living) -> Response:
    with asked.service.database.read() as session:
        return _shown(_found(session, asked, completed), completed.already_there, living)


def _found(session: Session, asked: Asked, completed: Completed) -> Dataset:
    return finding.get(session, completed.dataset_id, owner=asked.sees)


def _shown(row: Dataset, already_there: bool, living: Living) -> Response:
    now = DatasetNow.seen(row, living)
    shown = CompletedDataset(**dict(now), already_there=already_there)
    headers = {"Location": shown.links.self_, **job_headers(row)}
    return answer(shown, 200 if already_there or shown.is_terminal else 202, headers)


def _device(living: Living) -> str:
    """An import needs no GPU: it waits for one only where nothing else is there."""
    alone = living is not None and device_lives(living, "cuda") and not device_lives(living, "cpu")
    return "cuda" if alone else "cpu"
