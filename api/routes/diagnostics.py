"""What diagnostics of an experiment recorded."""

import functools
import io
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Depends, FastAPI, Path
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.aside.pool import Work
from api.deps import Admitted, Asked, ExperimentId
from api.headers import if_none_match_parameter, none_match
from api.lanes import reading
from api.openapi import range_parameters
from api.parameters import MAX_INTEGER, Parameters, Reading
from api.problems import declared
from api.refusals import InvalidParameter
from api.routes.keyed import KeyedRoutes
from api.routes.metrics import TABLE_MEDIA, table_answer
from api.sending import Sent, file_responses, send
from api.shown.diagnostics import DiagnosticList, Recorded
from bncore.recording import Recording, RecordingDamaged, from_bytes
from store import experiments, recordings, tables
from store.errors import FileDamaged

_TABLE = "bncore.figures.asked:recordings_table"
_MOST_TABLE_BYTES = 4_000_000
"""A million numbers of four bytes: some seconds' work."""

Kind = Annotated[str, Path(pattern="^[a-z][a-z_]{0,63}$", examples=["norm_health"])]


class RecordingQuery(Parameters):
    step: int | None = Field(default=None, ge=0, le=MAX_INTEGER, description="Without it, the newest.")
    format: Literal["json", "npz", "safetensors", "csv", "parquet"] = Field(
        default="json",
        description="npz: numpy's own, everything in it. safetensors: the file as it is stored. csv, parquet: a table "
        "with a row a number, of at most a million.",
    )
    max_values: int = Field(
        default=10_000, ge=100, le=1_000_000, description="Of each array in JSON; longer axes are thinned evenly."
    )


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}/diagnostics", "results")
    routes.add(
        "", list_recordings, response_model=DiagnosticList, responses=declared(404), summary="What was diagnosed"
    )
    responses: dict[int | str, dict[str, Any]] = file_responses("The recording")
    responses[200] = {"model": Recorded, "description": "The recording", "content": responses[200]["content"]}
    routes.add(
        "/{kind}",
        get_recording,
        response_class=Response,
        responses=responses,
        openapi_extra={"parameters": [if_none_match_parameter(), *range_parameters()]},
        summary="The numbers of one diagnostic",
    )


@reading
def list_recordings(experiment_id: ExperimentId, asked: Asked) -> Response:
    """Kinds, the steps after which they were measured, and their files. What is to be measured says the spec."""
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        return answer(DiagnosticList.of(experiment_id, recordings.listed(session, experiment_id)))


async def get_recording(
    experiment_id: ExperimentId,
    kind: Kind,
    asked: Asked,
    query: Annotated[RecordingQuery, Depends(Reading(RecordingQuery))],
) -> Response:
    """Arrays with their axes and units, places in the network, and scalars, which are series of metrics as well."""
    row = await asked.service.reads.run(functools.partial(_find, asked, experiment_id, kind, query.step))
    if query.format == "safetensors":
        return await send(asked, Sent(row.id, row.name, row.size, row.sha256))
    headers = {"ETag": f'"{row.sha256}-{query.format}-{query.max_values}"', "Cache-Control": "private, no-cache"}
    if none_match(asked.request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if query.format in TABLE_MEDIA:
        return await _table(asked, row, query.format, headers)
    return await asked.service.long_reads.run(functools.partial(_made, asked, row, query, headers))


async def _table(asked: Admitted, row: tables.File, form: str, headers: dict[str, str]) -> Response:
    if row.size > _MOST_TABLE_BYTES:
        detail = f"This recording has {row.size:,} bytes, more than a table may be made of: take npz or safetensors"
        raise InvalidParameter("format", detail)

    async def prepare() -> Work:
        read = functools.partial(recordings.content, asked.service.database, row.id)
        return Work({"format": form}, [await asked.service.long_reads.run(read)])

    table = await asked.service.aside.run(asked.request, asked.caller.owner, _TABLE, prepare)
    return table_answer(table, form, row.name.removesuffix(".safetensors"), headers)


def _find(asked: Admitted, experiment_id: str, kind: str, step: int | None) -> tables.File:
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        return recordings.find(session, experiment_id, kind, step)


def _made(asked: Admitted, row: tables.File, query: RecordingQuery, headers: dict[str, str]) -> Response:
    try:
        recording = from_bytes(recordings.content(asked.service.database, row.id))
    except RecordingDamaged as error:
        raise FileDamaged(row.id, str(error)) from error
    if query.format == "json":
        return answer(Recorded.of(row, recording, query.max_values), headers=headers)
    name = row.name.removesuffix(".safetensors")
    headers = {**headers, "Content-Disposition": f'attachment; filename="{name}.npz"'}
    return Response(_npz(recording), headers=headers, media_type="application/octet-stream")


def _npz(recording: Recording) -> bytes:
    arrays: dict[str, Any] = {
        **recording.arrays,
        **{f"scalars/{name}": np.float64(value) for name, value in recording.scalars.items()},
        "sites/name": np.array([site.name for site in recording.sites], dtype=str),
        "sites/depth": np.array([site.depth for site in recording.sites], dtype=np.int64),
        "notes": np.array(recording.notes, dtype=str),
        "sites/role": np.array([site.role for site in recording.sites], dtype=str),
    }
    written = io.BytesIO()
    np.savez_compressed(written, **arrays)
    return written.getvalue()
