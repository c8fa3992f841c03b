"""The API's description of itself, and the service held to it by generated requests."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.openapi import SPEC_EXAMPLES, TAGS

OPERATIONS = {
    "get_health", "get_readiness", "submit_experiment", "validate_experiment", "list_experiments", "get_experiment",
    "cancel_experiment", "delete_experiment", "get_results", "get_metrics", "list_events", "list_checkpoints",
    "get_checkpoint", "download_checkpoint", "list_normalizers", "list_networks", "list_datasets",
    "list_diagnostics", "list_recordings", "get_recording",
    "list_initializers", "list_optimizers", "list_schedules", "list_losses", "list_keys", "get_key", "create_key",
    "rotate_key", "revoke_key", "list_owners", "get_own_owner", "pause_experiment", "resume_experiment",
    "retry_experiment", "kill_experiment", "clone_experiment", "edit_experiment", "cancel_experiments",
    "delete_experiments", "list_attempts", "get_logs", "list_workers", "get_file", "download_file", "list_data",
    "get_dataset", "begin_upload", "list_parts", "store_part", "complete_upload", "cancel_dataset", "retry_dataset",
    "delete_dataset", "list_dataset_files", "download_contact_sheet", "download_report", "list_dataset_events",
    "submit_evaluation", "list_evaluations_of", "list_evaluations", "get_evaluation", "cancel_evaluation",
    "kill_evaluation", "pause_evaluation", "resume_evaluation", "retry_evaluation", "delete_evaluation", "predict",
    "list_evaluation_events", "kill_dataset", "pause_dataset", "resume_dataset", "list_dataset_attempts",
    "get_dataset_logs", "list_evaluation_attempts", "get_evaluation_logs",
    "compare_experiments", "submit_sweep", "list_sweeps", "get_sweep", "list_sweep_experiments", "extend_sweep",
    "delete_sweep", "cancel_sweep", "pause_sweep", "resume_sweep", "retry_sweep", "get_sweep_results", "validate_sweep",
    "list_sweep_figures", "get_sweep_figure", "list_figures", "get_figure", "draw_figure",
    "submit_study", "list_studies", "get_study", "list_study_experiments", "delete_study", "list_claims",
    "cancel_study", "pause_study", "resume_study", "retry_study", "extend_study", "get_study_verdict",
    "get_study_report", "get_study_page", "list_study_events", "list_study_attempts", "get_study_logs",
    "list_study_figures", "get_study_figure",
}  # fmt: skip


@pytest.fixture(scope="module")
def document(shared_api: Any) -> dict[str, Any]:
    answer = shared_api.client.get("/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def test_operation_ids_are_stable_names(document: dict[str, Any]) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert document["openapi"].startswith("3.1")
    assert {operation["operationId"] for operation in operations} == OPERATIONS
    assert all(operation["summary"] and operation["description"] for operation in operations)


def test_every_tag_is_described_and_every_operation_has_one(document: dict[str, Any]) -> None:
    described = [tag["name"] for tag in document["tags"] if tag["description"]]
    used = [operation["tags"] for path in document["paths"].values() for operation in path.values()]
    assert all(len(tags) == 1 for tags in used)
    assert sorted(described) == sorted({tag for (tag,) in used})


def test_every_reference_leads_somewhere_and_no_schema_is_the_frameworks(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = set(_references(document))
    assert {reference.rsplit("/", 1)[1] for reference in references} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    assert document["paths"]["/v1/experiments"]["post"]["security"] == [{"bearer": []}]


def test_every_error_is_declared_as_a_problem(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5")):
                    assert list(response["content"]) == ["application/problem+json"]
    declared = set(document["paths"]["/v1/experiments"]["post"]["responses"])
    assert declared == {"202", "400", "401", "403", "404", "413", "415", "422", "429", "503"}


@pytest.mark.parametrize("name", SPEC_EXAMPLES)
def test_the_examples_can_be_submitted(shared_api: Any, name: str) -> None:
    answer = shared_api.client.post("/v1/experiments:validate", json=SPEC_EXAMPLES[name]["value"])
    assert answer.status_code == 200, answer.text


def test_the_unions_of_a_spec_are_discriminated(document: dict[str, Any]) -> None:
    network = document["components"]["schemas"]["ExperimentSpec"]["properties"]["network"]
    assert network["discriminator"]["propertyName"] == "kind"


@pytest.fixture(scope="module")
def described(shared_api: Any) -> Any:
    return schemathesis.openapi.from_url(f"{shared_api.url}/openapi.json")


# The listings of the catalog are one function.
TRIED = {name for name in OPERATIONS if not name.startswith("list_") or name in ("list_experiments", "list_networks")}
TRIED |= {"list_events", "list_checkpoints", "list_keys", "list_owners", "list_attempts", "list_figures"}


@pytest.mark.parametrize("operation_id", sorted(TRIED))
def test_requests_as_described_are_answered_as_described(described: Any, shared_api: Any, operation_id: str) -> None:
    _try(described, shared_api, operation_id, schemathesis.GenerationMode.POSITIVE)


@pytest.mark.parametrize("operation_id", sorted(TRIED - {"get_health", "get_readiness"}))
def test_requests_that_break_the_description_are_refused(described: Any, shared_api: Any, operation_id: str) -> None:
    _try(described, shared_api, operation_id, schemathesis.GenerationMode.NEGATIVE)


def _try(described: Any, api: Any, operation_id: str, mode: schemathesis.GenerationMode) -> None:
    operation = described.find_operation_by_id(operation_id)
    # JSON Schema cannot say that parts of a spec fit together, or that 2.0 is not a whole number here.
    # Nor can it say which cursors this service has handed out, or which parameters fit which figure.
    loose = operation_id in (
        "submit_experiment", "validate_experiment", "list_experiments", "create_key", "list_keys", "list_owners",
        "edit_experiment", "list_checkpoints", "cancel_experiments", "delete_experiments", "get_logs",
        "get_dataset_logs", "get_evaluation_logs", "begin_upload", "list_datasets", "store_part",
        "draw_figure", "get_figure", "get_sweep_figure", "compare_experiments",
        "submit_sweep", "extend_sweep", "validate_sweep", "submit_study", "extend_study",
        "get_study_logs",
    )  # fmt: skip
    excluded = [positive_data_acceptance] if loose else []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def holds(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {api.key}"}, excluded_checks=excluded)

    holds()


# Schemathesis' own list, and 411: a part of an upload that does not say how long it is.
REFUSED = 'expected-statuses = [400, 401, 403, 404, 405, 406, 409, 411, 415, 422, 428, 429, "5xx"]'


def test_what_one_request_made_others_find_as_described(sqlite_api: Any, tmp_path: Path) -> None:
    """Schemathesis submits, looks, cancels and deletes, with ids from answers in later requests."""
    _run_schemathesis(sqlite_api, tmp_path, "stateful", 5)


# Each network kind has every normalization in the schema of a spec: tens of thousands of cases cover it. It is one
# schema, so they are sent where nothing is stored, and in two halves.
SPEC_OPERATIONS = ("submit_experiment", "validate_experiment")
HALVES = ("positive", "negative")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tag", [tag["name"] for tag in TAGS])
def test_thousands_of_requests_are_answered_as_described(sqlite_api: Any, tmp_path: Path, tag: str) -> None:
    only = [f"--include-tag={tag}", *(f"--exclude-operation-id={name}" for name in SPEC_OPERATIONS)]
    _run_schemathesis(sqlite_api, tmp_path, "examples,coverage,fuzzing", 20, *only)


@pytest.mark.slow
@pytest.mark.timeout(2700)
@pytest.mark.parametrize("half", HALVES)
def test_the_schema_of_a_spec_is_covered(sqlite_api: Any, tmp_path: Path, half: str) -> None:
    only = ("--include-operation-id=validate_experiment", f"--mode={half}")
    _run_schemathesis(sqlite_api, tmp_path, "examples,coverage,fuzzing", 20, *only)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_submission_is_answered_as_described(sqlite_api: Any, tmp_path: Path) -> None:
    _run_schemathesis(sqlite_api, tmp_path, "examples,fuzzing", 100, "--include-operation-id=submit_experiment")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_many_requests_made_others_find_as_described(sqlite_api: Any, tmp_path: Path) -> None:
    _run_schemathesis(sqlite_api, tmp_path, "stateful", 20)


def _run_schemathesis(api: Any, directory: Path, phases: str, examples: int, *only: str) -> None:
    settings_file = directory / "schemathesis.toml"
    # Nothing is learned from waiting a minute for a change that does not come.
    settings_file.write_text(f'[parameters]\n"query.wait" = 0.1\n[checks.negative_data_rejection]\n{REFUSED}\n')
    # Made with the first request for it, which on a busy machine takes longer than Schemathesis waits.
    assert api.client.get("/openapi.json").status_code == 200
    ran = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", f"--config-file={settings_file}", "run",
            f"{api.url}/openapi.json", f"--phases={phases}", f"--max-examples={examples}", "--seed=1", "--no-color",
            "--request-timeout=300",
            f"--header=Authorization: Bearer {api.key}", "--exclude-checks=positive_data_acceptance", *only,
        ],
        capture_output=True, text=True, cwd=directory,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "passed" in ran.stdout


def _references(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
