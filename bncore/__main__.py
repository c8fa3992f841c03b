"""The trainer process: `python -m bncore RUN_DIR` trains one run directory, `python -m bncore --wait` waits for one.

It exits with 0 when the run finished or was stopped, 1 when it failed, 73 when another trainer holds the directory.
SIGTERM and SIGINT save a checkpoint at the next step and stop. Nothing of torch is imported before it is needed.
"""

import argparse
import contextlib
import logging
import os
import select
import signal
import sys
import threading
import traceback
from pathlib import Path

from bncore.lifeline import exit_on_eof

EXIT_FAILED = 1
EXIT_BUSY = 73
LOWEST_PRIORITY = 19


class StopRequest:
    """Set by a signal, read between steps. `wake` becomes readable with each signal."""

    def __init__(self) -> None:
        self.asked = False
        self.wake, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True


def main() -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m bncore", description="Train one run directory.")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("run_dir", type=Path, nargs="?", help="directory with spec.json; everything is written there")
    chosen.add_argument("--wait", action="store_true", help="warm up, then read the run directory from standard input")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stop = StopRequest()
    run_dir = _wait_for_run_dir(stop) if arguments.wait else arguments.run_dir
    return _train(run_dir, stop)


def _wait_for_run_dir(stop: StopRequest) -> Path:
    """Warm up beside the training of others, and read one line. The parent's end of the pipe is our life."""
    warming = threading.Thread(target=_warm_up, name="warm-up", daemon=True)
    warming.start()
    line = _read_line(stop)
    exit_on_eof(0, lambda: os._exit(EXIT_FAILED))
    # The run is waiting now, and warming is in its way. An ordinary user may not raise a priority again.
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, warming.native_id or 0, 0)
    warming.join()
    return Path(line)


def _warm_up() -> None:
    # On Linux a priority belongs to a thread: the one that will train keeps its own.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
    try:
        from bncore.train.warmup import warm_up

        warm_up()
        os.write(1, b"ready\n")
    except BaseException:
        traceback.print_exc()
        os._exit(EXIT_FAILED)


def _read_line(stop: StopRequest) -> str:
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([0, stop.wake], [], [])
        if 0 in readable:
            # A byte at a time: what follows the line belongs to the lifeline.
            byte = os.read(0, 1)
            if not byte:
                os._exit(EXIT_FAILED)
            line += byte
        elif stop.asked and not line:
            # There is nothing to save, and the interpreter cannot end cleanly in the middle of an import.
            os._exit(0)
    return os.fsdecode(line[:-1])


def _train(run_dir: Path, stop: StopRequest) -> int:
    from bncore.train.attempt import run_attempt
    from bncore.train.run_directory import RunDirectoryBusy, RunDirectoryUsed

    try:
        outcome = run_attempt(run_dir, lambda: stop.asked)
    except RunDirectoryBusy as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BUSY
    except (RunDirectoryUsed, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    if outcome.kind == "failed":
        sys.stderr.write(f"{outcome.code}: {outcome.message}\n")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # With torch in it the interpreter takes a second to tear down; all that matters is on the disk by now.
    os._exit(code)
