"""Requests a second beside MLflow 3's tracking server: `python -m bench.beside_mlflow --mlflow PATH_OF_EXECUTABLE`.

MLflow is no dependency of ours, so it stands in an environment of its own, outside of this repository:

    python3 -m venv /tmp/mlflow-venv && /tmp/mlflow-venv/bin/pip install 'mlflow>=3,<4'
    python -m bench.beside_mlflow --mlflow /tmp/mlflow-venv/bin/mlflow

Both have a SQLite file with a hundred runs in it, MLflow its default server with its default workers. Asked of both, by
1 and by 8 clients that keep their connections: one run, the newest 20, a new one, in this order, so that reading is
compared over the same hundred. One server is asked while the others idle; they take turns, `--repeats` times, and
figures are medians. The clients take time of the same cores, which the faster server loses most by. Figures mean
something on idle cores only.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clients import Question, ask, ask_again_and_again, request
from bench.service import SPEC, await_lines, running_service
from tests.conftest import free_port

KINDS = ("get", "list", "create")
PAGE = 20
RUNS = 100
_WARM_UP_SECONDS = 1.0
_MLFLOW_WORKERS = 4
"""Its default, which is not given to it; each says when it has started."""
_MLFLOW_START_SECONDS = 300.0
"""It migrates its database first."""


@dataclass(frozen=True)
class Server:
    """Who is asked: its name, its port, and what it is asked for each kind of request."""

    name: str
    port: int
    questions: Mapping[str, Question]

    def rate(self, kind: str, clients: int, seconds: float) -> float:
        """Answers a second."""
        taken = ask_again_and_again(self.port, self.questions[kind], clients, seconds)
        # Each client waits for its answers one after another, the last of them beyond the time.
        return clients * len(taken) / sum(taken)


def main() -> None:
    """Print a line for each kind of request and number of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", type=Path, help="the `mlflow` of the environment that it was installed in")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="our API with so many processes each")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each rate")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.mlflow is None:
        sys.stdout.write("Nothing to compare with: see --help for how to install MLflow, and give --mlflow.\n")
        return
    directory = Path(tempfile.mkdtemp(prefix="bnlab-mlflow-"))
    try:
        with ExitStack() as stack:
            ours = [stack.enter_context(_ours(directory, processes)) for processes in arguments.processes]
            theirs = stack.enter_context(_mlflow(directory / "mlflow", arguments.mlflow))
            for kind, clients in itertools.product(KINDS, (1, 8)):
                _compare(ours, theirs, kind, clients, arguments.seconds, arguments.repeats)
    finally:
        shutil.rmtree(directory)


def _compare(ours: list[Server], theirs: Server, kind: str, clients: int, seconds: float, repeats: int) -> None:
    rates: dict[str, list[float]] = {server.name: [] for server in (*ours, theirs)}
    for server in (*ours, theirs):
        server.rate(kind, clients, min(_WARM_UP_SECONDS, seconds))
    for _ in range(repeats):
        for server in (*ours, theirs):
            rates[server.name].append(server.rate(kind, clients, seconds))
    median = {name: statistics.median(found) for name, found in rates.items()}
    said = [f"{theirs.name} {median[theirs.name]:6.0f}/s"]
    said += [
        f"{server.name} {median[server.name]:6.0f}/s = {median[server.name] / median[theirs.name]:5.2f} x"
        for server in ours
    ]
    sys.stdout.write(f"{kind:7} {clients} clients   " + "   ".join(said) + "\n")
    sys.stdout.flush()


@contextmanager
def _ours(directory: Path, processes: int) -> Iterator[Server]:
    home = directory / f"ours-{processes}"
    home.mkdir()
    with running_service(home, f"sqlite:///{home}/bnlab.db", processes) as service:
        one = service.experiment_id
        questions = {
            "get": Question(
                service.request("GET", f"/v1/experiments/{one}"), lambda body: f'"id":"{one}"'.encode() in body
            ),
            "list": Question(
                service.request("GET", f"/v1/experiments?limit={PAGE}"),
                lambda body: body.count(b'"id":"exp_') == PAGE,
            ),
            "create": Question(
                service.request("POST", "/v1/experiments", json.dumps(SPEC).encode()),
                lambda body: body.count(b'"id":"exp_') == 1,
            ),
        }
        yield Server(f"BNLab ({processes})", service.port, questions)


@contextmanager
def _mlflow(directory: Path, executable: Path) -> Iterator[Server]:
    directory.mkdir()
    port, log_file = free_port(), directory / "mlflow.log"
    command: list[str | Path] = [executable, "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
    command += ["--default-artifact-root", directory / "artifacts"]
    path = os.pathsep.join([str(executable.absolute().parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with log_file.open("wb") as log:
        # A session of its own, to end its workers with it.
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        await_lines(log_file, b"Application startup complete", _MLFLOW_WORKERS, _MLFLOW_START_SECONDS)
        yield Server("MLflow", port, _questions_to_mlflow(port))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _questions_to_mlflow(port: int) -> dict[str, Question]:
    """What it is asked, once it has its hundred runs."""
    create = Question(_mlflow_request(port, "runs/create", _RUN), lambda body: b'"run_id"' in body)
    made = [json.loads(ask(port, create))["run"]["info"]["run_id"] for _ in range(RUNS)]
    for run_id in made:
        ask(port, Question(_mlflow_request(port, "runs/log-batch", {"run_id": run_id, "params": _PARAMETERS})))
    one = made[RUNS // 2]
    newest = {"experiment_ids": ["0"], "max_results": PAGE}
    return {
        "get": Question(
            request(port, "GET", f"/api/2.0/mlflow/runs/get?run_id={one}"), lambda body: one.encode() in body
        ),
        "list": Question(_mlflow_request(port, "runs/search", newest), lambda body: body.count(b'"run_id"') == PAGE),
        "create": create,
    }


def _mlflow_request(port: int, act: str, document: Mapping[str, Any]) -> bytes:
    return request(port, "POST", f"/api/2.0/mlflow/{act}", json.dumps(document).encode())


_RUN = {
    "experiment_id": "0",
    "run_name": SPEC["name"],
    "start_time": 1_700_000_000_000,
    "tags": [{"key": "paper", "value": "1702.03275"}],
}
_PARAMETERS = [
    {"key": key, "value": value}
    for key, value in {
        "network": "mlp", "hidden": "[100, 100, 100]", "norm": "batch_renorm", "optimizer": "sgd", "lr": "0.1",
        "momentum": "0.9", "steps": "2000", "batch_size": "60", "seed": "0", "threads": "1",
    }.items()
]  # fmt: skip


if __name__ == "__main__":
    main()
