"""What `api.connections` and `api.server` rely on and uvicorn does not promise: here it is said when that changes."""

import inspect

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl

SIGNATURES = {
    "connection_made": ["self", "transport"], "data_received": ["self", "data"], "send_400_response": ["self", "msg"],
    "on_message_begin": ["self"], "on_header": ["self", "name", "value"], "on_headers_complete": ["self"],
    "on_body": ["self", "body"], "on_message_complete": ["self"], "_unset_keepalive_if_required": ["self"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), SIGNATURES.items(), ids=SIGNATURES)
def test_the_protocol_has_the_methods_that_are_overridden(name: str, parameters: list[str]) -> None:
    method = getattr(httptools_impl.HttpToolsProtocol, name)
    assert list(inspect.signature(method).parameters) == parameters


def test_the_protocol_has_the_parts_that_are_read() -> None:
    made = inspect.getsource(httptools_impl.HttpToolsProtocol.__init__)
    for name in ("loop", "connections", "flow", "pipeline", "headers", "cycle", "transport", "parser"):
        assert f"self.{name}" in made
    made = inspect.getsource(httptools_impl.RequestResponseCycle.__init__)
    for name in ("disconnected", "keep_alive", "response_started", "response_complete", "message_event"):
        assert f"self.{name} = " in made
    assert httptools_impl.STATUS_LINE[408] == b"HTTP/1.1 408 Request Timeout\r\n"
    assert "self.read_paused" in inspect.getsource(FlowControl.__init__)


def test_the_parser_reports_what_its_callbacks_raise_and_what_it_does_not_read() -> None:
    assert issubclass(httptools.HttpParserCallbackError, httptools.HttpParserError)
    assert not issubclass(httptools.HttpParserUpgrade, httptools.HttpParserError)


@pytest.mark.parametrize("name", ["startup", "shutdown", "handle_exit"])
def test_the_server_has_the_methods_that_are_overridden(name: str) -> None:
    assert callable(getattr(uvicorn.Server, name))
