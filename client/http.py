"""`Client`: the HTTP API as Python calls, a module a noun.

Answers are the server's JSON objects, so that fields a newer server adds arrive too.
"""

import os
from collections.abc import Callable
from types import TracebackType

from client.actions import ActionCalls
from client.attempts import AttemptCalls
from client.comparisons import ComparisonCalls
from client.datasets import DatasetCalls
from client.diagnostics import DiagnosticCalls
from client.errors import Json
from client.evaluations import EvaluationCalls
from client.experiments import ExperimentCalls
from client.figures import FigureCalls
from client.files import FileCalls
from client.keys import KeyCalls
from client.results import ResultCalls
from client.studies import StudyCalls
from client.sweeps import SweepCalls
from client.transport import Transport
from client.workers import WorkerCalls

DEFAULT_URL = "http://127.0.0.1:8000"


class Client(
    ExperimentCalls,
    ActionCalls,
    ResultCalls,
    ComparisonCalls,
    DiagnosticCalls,
    AttemptCalls,
    DatasetCalls,
    EvaluationCalls,
    SweepCalls,
    StudyCalls,
    FigureCalls,
    FileCalls,
    WorkerCalls,
    KeyCalls,
):
    """A connection to one BNLab server.

    >>> with Client("http://127.0.0.1:8000", api_key="bnl_...") as client:
    ...     experiment = client.submit({"train": {"steps": 500}})
    ...     results = client.wait(experiment["id"])
    ...     loss = client.metrics(experiment["id"], ["train/loss"])["train/loss"]

    `url` and `api_key` default to the environment's BNLAB_URL and BNLAB_API_KEY. `timeout_seconds` bounds one try,
    `retry_seconds` the time after which a failing call is not tried again. `notice` is told when the server does not
    answer and is tried again; with `refused_at_once` it is not, where nothing listens on a port of this machine.
    Raises `InvalidSetting`.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        retry_seconds: float = 30.0,
        refused_at_once: bool = False,
        notice: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._transport = Transport(
            url or os.environ.get("BNLAB_URL") or DEFAULT_URL,
            api_key or os.environ.get("BNLAB_API_KEY"),
            timeout_seconds,
            retry_seconds,
            refused_at_once=refused_at_once,
            notice=notice,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Calls after it fail."""
        self._transport.close()

    def readyz(self) -> Json:
        """How the parts of the service are, one word each; a server that is not ready answers as well."""
        try:
            answer: Json = self._transport.plain("GET", "/readyz").json()
        except ValueError:
            raise self._not_json("/readyz") from None
        return answer

    def catalog(self, noun: str) -> list[Json]:
        """What a spec may choose: `normalizers`, `networks`, `data`, `optimizers`, `schedules` and so on."""
        answer = self._json("GET", f"/v1/{noun}")
        entries: list[Json] = answer["data"] if isinstance(answer, dict) else answer
        return entries
