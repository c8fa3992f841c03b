"""The API's description of itself: what the framework cannot know is added here.

The request body is read by `api.bodies`, and the query by `api.parameters`, so their schemas are put in by hand, from
the very classes that validate them.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.dataset_body import DatasetBody
from api.figure_body import FigureOfSeveral
from api.parameters import Reading
from api.problems import Problem
from bncore.spec import ExperimentSpec
from bncore.spec.evaluation import CheckpointEvaluation
from bncore.spec.limits import IDEMPOTENCY_KEY_CHARS
from bncore.spec.prediction import Prediction
from bncore.spec.study import StudyExtension, StudySpec
from bncore.spec.sweep import Extension, SweepSpec

_REF = "#/components/schemas/{model}"

DESCRIPTION = """
Training as a service for normalization experiments: POST a spec, read metrics, results and checkpoints back.

Every error is `application/problem+json` (RFC 9457). States and codes may be added: treat a state you do not know as
not terminal. Listings are pages of `{data, has_more, next_cursor}`. HEAD is answered wherever GET is, with the same
headers. A parameter that is no list may come once. A 503 may have been carried out: repeat a POST with its
`Idempotency-Key`; one with the code `database_unusable` was not, and lasts until somebody migrates the database. A key
that was revoked may go on working for a few seconds. Parameters that an operation does not have are refused.

A key belongs to an owner and sees what is its owner's: anything else is a 404. Its scope `read` looks, `submit` looks
and changes, `admin` does so for every owner. An owner who asks too often is answered 429 with `Retry-After`; the
headers `RateLimit-Policy` and `RateLimit` say how much is left.
"""

TAGS = [
    {"name": "experiments", "description": "Submit, find, cancel and delete."},
    {"name": "results", "description": "What an experiment has made so far."},
    {"name": "datasets", "description": "Data of one's own: upload, look at, delete."},
    {"name": "checkpoints", "description": "Trained networks as safetensors files."},
    {"name": "evaluations", "description": "Checkpoints measured on other data."},
    {"name": "sweeps", "description": "Many experiments of one template, and searches."},
    {"name": "studies", "description": "Questions, their experiments, and verdicts."},
    {"name": "files", "description": "Named bytes that belong to one of these, each by its own id."},
    {"name": "catalog", "description": "What a spec can choose from."},
    {"name": "owners", "description": "API keys, whose they are, and what their owners use."},
    {"name": "health", "description": "For whoever starts and watches the service; no key needed."},
]

SPEC_EXAMPLES: dict[str, dict[str, Any]] = {
    "smallest": {"summary": "Everything left at its default", "value": {}},
    "batch_renorm": {
        "summary": "The network of Ioffe and Szegedy (2015) with batch renormalization",
        "value": {
            "name": "digits-brn",
            "tags": {"paper": "1702.03275"},
            "data": {"kind": "digits"},
            "network": {
                "kind": "mlp",
                "hidden": [100, 100, 100],
                "activation": "sigmoid",
                "norm": {"kind": "batch_renorm", "r_max": 3.0, "d_max": 5.0, "momentum": 0.01},
                "init": {"kind": "normal", "std": 0.1},
            },
            "optimizer": {"kind": "sgd", "lr": 0.5},
            "train": {"steps": 2000, "batch_size": 60, "seed": 0, "target": {"test_accuracy": 0.9}},
        },
    },
    "cnn": {
        "summary": "A small convolutional network with group normalization",
        "value": {
            "network": {"kind": "cnn", "channels": [16, 32], "norm": {"kind": "group_norm", "num_groups": 4}},
            "optimizer": {"kind": "adamw", "lr": 0.003},
            "schedule": {"kind": "cosine", "warmup_steps": 50},
            "train": {"epochs": 20},
        },
    },
}


def install(app: FastAPI) -> None:
    """Complete `app.openapi()`."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            _add_parameters(app, document)
            _complete(document)
        return plain()

    setattr(app, "openapi", complete)  # noqa: B010  (FastAPI's own way; mypy refuses the plain assignment)


def spec_request_body() -> dict[str, Any]:
    """The body of an operation that takes a spec."""
    media = {"schema": {"$ref": _REF.format(model="ExperimentSpec")}, "examples": SPEC_EXAMPLES}
    return {"required": True, "content": {"application/json": media}}


def request_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The body of an operation that takes one of these, which have no models inside."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def model_body(model: type[BaseModel]) -> dict[str, Any]:
    """The body of an operation that takes one of these, which the description knows by its name."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def dataset_body() -> dict[str, Any]:
    """The body of the operation that begins an upload."""
    media = {"schema": {"$ref": _REF.format(model="DatasetBody")}, "example": {"name": "cifar", "resize": 32}}
    return {"requestBody": {"required": True, "content": {"application/json": media}}}


def part_body() -> dict[str, Any]:
    """Body and header of the operation that sends a part of an upload."""
    media = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    digest = {
        "name": "Content-Digest",
        "in": "header",
        "required": True,
        "description": "RFC 9530: the sha-256 of the body.",
        "schema": {"type": "string"},
        "example": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
    }
    return {"requestBody": {"required": True, "content": media}, "parameters": [digest]}


def edit_body() -> dict[str, Any]:
    """The body of the operation that changes name and tags."""
    null = {"type": "null"}
    tags = {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, null]}}
    properties = {"name": {"anyOf": [{"type": "string"}, null]}, "tags": {"anyOf": [tags, null]}}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return _patch_body(schema, {"name": "digits, again", "tags": {"paper": None, "arm": "control"}})


def clone_body() -> dict[str, Any]:
    """The body of the operation that submits an experiment like another one."""
    return _patch_body({"type": "object"}, {"name": "seed 1", "train": {"seed": 1}})


def idempotency_parameter() -> dict[str, Any]:
    """The header that makes a POST repeatable."""
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "One word for one submission, e.g. a quoted UUID. Repeats within 24 hours submit nothing new.",
        "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_CHARS + 2, "pattern": "^[!-~]+$"},
        "example": '"5f2d1c1e-3c1b-4c6f-9d53-8a5a0b2f6c11"',
    }


def range_parameters() -> list[dict[str, Any]]:
    """The headers that ask for a part of a file."""
    return [
        {
            "name": "Range",
            "in": "header",
            "required": False,
            "description": "One range of bytes; anything else is answered with the whole file.",
            "schema": {"type": "string"},
            "example": "bytes=0-1048575",
        },
        {
            "name": "If-Range",
            "in": "header",
            "required": False,
            "description": "An ETag: the part if it is still this file's, else the whole.",
            "schema": {"type": "string"},
        },
    ]


def _patch_body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    media = {"schema": schema, "example": example}
    return {"required": True, "content": {"application/merge-patch+json": media, "application/json": media}}


def _add_parameters(app: FastAPI, document: dict[str, Any]) -> None:
    """Those that `Reading` reads, in the framework's words for them, between those of the path and the headers."""
    read = [
        (route, dependency.call.model)
        for route in app.routes
        if isinstance(route, APIRoute)
        for dependency in route.dependant.dependencies
        if isinstance(dependency.call, Reading)
    ]
    plain = FastAPI()
    for route, model in read:
        plain.add_api_route(route.path, _taking(model), methods=sorted(route.methods or ()))
    described = plain.openapi()
    document["components"]["schemas"] |= described["components"]["schemas"]
    for route, _ in read:
        for method in route.methods or ():
            operation = document["paths"][route.path][method.lower()]
            known = operation.get("parameters", [])
            path = [parameter for parameter in known if parameter["in"] == "path"]
            query = described["paths"][route.path][method.lower()]["parameters"]
            operation["parameters"] = [*path, *query, *known[len(path) :]]


def _taking(model: type[BaseModel]) -> Callable[..., Awaitable[None]]:
    async def take(query: Any) -> None:
        """Never called."""

    take.__annotations__["query"] = Annotated[model, Query()]
    return take


def _complete(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bodies = (CheckpointEvaluation, Prediction, DatasetBody, FigureOfSeveral, SweepSpec, Extension)
    for model in (ExperimentSpec, *bodies, StudySpec, StudyExtension, Problem):
        schema = model.model_json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for shown in ("Experiment", "ExperimentNow", "ListedExperiment", "Submitted", "Validated"):
        described = schemas[shown]["properties"]["spec"]
        schemas[shown]["properties"]["spec"] = {
            "$ref": _REF.format(model="ExperimentSpec"),
            "description": described["description"],
        }
    _drop_framework_errors(document)
    document["components"]["schemas"] = dict(sorted(schemas.items()))


def _drop_framework_errors(document: dict[str, Any]) -> None:
    """The framework declares its own 422 wherever there is a parameter; this service never sends it."""
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    for path in document["paths"].values():
        for operation in path.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
