"""The server process around the application: how it starts, and how it ends.

Invariant: at shutdown no request keeps the process: waiting ones are woken, running ones have a grace period, and
what then still hangs is cut.
"""

import json
import os
import socket
import threading

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.deps import ApiService
from api.problems import MEDIA_TYPE

_HARD_EXIT_MARGIN_SECONDS = 5.0


class Server(uvicorn.Server):
    """uvicorn, which tells the application's waiting requests before it waits for them."""

    def __init__(self, app: FastAPI) -> None:
        service = app.state.service
        assert isinstance(service, ApiService)
        self._service = service
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=ProblemProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=settings.graceful_shutdown_seconds,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.changes.close()
        await super().shutdown(sockets)

    def stop(self) -> None:
        """Begin to shut down, from any thread, and make sure that it ends."""
        self.should_exit = True
        grace = self._service.settings.graceful_shutdown_seconds + _HARD_EXIT_MARGIN_SECONDS
        # A thread stuck in a database call cannot be interrupted; the process can.
        timer = threading.Timer(grace, os._exit, args=(1,))
        timer.daemon = True
        timer.start()


class ProblemProtocol(H11Protocol):
    """Answers what is not even HTTP with a problem document, too."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (it may repeat what was sent)
        document = {
            "type": "urn:bnlab:problem:invalid_http",
            "title": "Bad Request",
            "status": 400,
            "detail": "This is not a valid HTTP/1.1 request.",
            "code": "invalid_http",
            "errors": [],
        }
        body = json.dumps(document).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
