"""Cancelling a sweep of many experiments that wait: `python -m bench.cancelling [--experiments 10000]`.

Wanted: accepted in 5 s, cancelled in 5 s. Printed a round: seconds that whoever asks waits, and CPU seconds of the API
process and of the PostgreSQL server meanwhile; figures in seconds mean something on an idle machine only, those of CPU
nearly everywhere. A sweep is submitted anew each round, beside those before it.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.chaos.servers import PostgreSql
from bench.clients import Question, ask
from bench.service import Service, running_service

_SEEDS_OF_A_POINT = 10


def main() -> None:
    """A line a round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bnlab-cancelling-"))
    try:
        with _database(given.database, directory) as (url, server), running_service(directory, url) as service:
            _rounds(service, server, given.experiments, given.rounds)
    finally:
        shutil.rmtree(directory)


@contextmanager
def _database(kind: str, directory: Path) -> Iterator[tuple[str, psutil.Process | None]]:
    """Its URL, and the first process of its server."""
    if kind == "sqlite":
        yield f"sqlite:///{directory}/bnlab.db", None
        return
    server = PostgreSql()
    server.start()
    try:
        yield server.url(), psutil.Process(int((server.directory / "postmaster.pid").read_text().split()[0]))
    finally:
        server.delete()


def _rounds(service: Service, server: psutil.Process | None, experiments: int, rounds: int) -> None:
    seen: dict[str, list[tuple[float, float, float]]] = {"submit": [], "cancel": []}
    for _ in range(rounds):
        answer, spent = _measured(service, server, "/v1/sweeps", _sweep(experiments))
        seen["submit"].append(spent)
        answer, spent = _measured(service, server, f"/v1/sweeps/{answer['id']}/cancel")
        assert answer["state"] == "cancelled", answer
        seen["cancel"].append(spent)
        for what, all_spent in seen.items():
            print(what, _said(all_spent[-1]), f"load {psutil.getloadavg()[0]:.1f}", flush=True)
    for what, all_spent in seen.items():
        print("median", what, _said(tuple(map(statistics.median, zip(*all_spent, strict=True)))))


def _sweep(experiments: int) -> dict[str, object]:
    values = [round(0.0001 * place, 6) for place in range(1, experiments // _SEEDS_OF_A_POINT + 1)]
    template = {"network": {"kind": "mlp", "hidden": [100, 100]}, "train": {"steps": 1000}}
    return {"template": template, "axes": {"optimizer.lr": values}, "seeds": _SEEDS_OF_A_POINT}


def _post(service: Service, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    content = b"" if body is None else json.dumps(body).encode()
    found: dict[str, object] = json.loads(ask(service.port, Question(service.request("POST", path, content))))
    return found


def _measured(
    service: Service, server: psutil.Process | None, path: str, body: dict[str, object] | None = None
) -> tuple[dict[str, object], tuple[float, float, float]]:
    """What it answers; seconds, CPU seconds of the API and of the server."""
    before, began = (_cpu(service.process), _cpu(server)), time.perf_counter()
    answer = _post(service, path, body)
    waited = time.perf_counter() - began
    return answer, (waited, _cpu(service.process) - before[0], _cpu(server) - before[1])


def _cpu(process: psutil.Process | None) -> float:
    """Of a process and of those below it that live, and of those that have ended."""
    if process is None:
        return 0.0
    each = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
    ended = each[0].children_user + each[0].children_system
    return float(sum(times.user + times.system for times in each) + ended)


def _said(spent: tuple[float, ...]) -> str:
    return "{:6.2f} s, CPU of the API {:6.2f} s, of the server {:6.2f} s".format(*spent)


if __name__ == "__main__":
    main()
