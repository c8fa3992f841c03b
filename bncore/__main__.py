"""The trainer process: `python -m bncore RUN_DIR` does what one run directory asks for, `--zygote` waits for jobs.

For people there is `python -m bncore run SPEC [DIR]` (`bncore.by_hand`).

It exits with a code of `bncore.run_directory`. SIGTERM and SIGINT save a checkpoint at the next step and stop. Nothing
of torch is imported before it is needed.
"""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from bncore import hand_over, zygote
from bncore.garbage import uncollected
from bncore.run_directory import EXIT_BUSY, EXIT_DISK_FULL, EXIT_DONE, EXIT_FAILED, EXIT_USAGE, RunLayout
from bncore.stop_request import StopRequest


def main() -> int:
    """Parse the command line and work."""
    if sys.argv[1:2] == ["run"]:
        return _run_by_hand(sys.argv[2:])
    description = "Train what spec.json in a run directory says, or import or evaluate what import.json or"
    parser = argparse.ArgumentParser(
        prog="python -m bncore",
        description=f"{description} evaluation.json say.",
        epilog="`python -m bncore run SPEC [DIR]` trains a spec with progress and a result.",
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("run_dir", type=Path, nargs="?", help="directory with one of these; all is written there")
    chosen.add_argument("--zygote", action="store_true", help="take jobs from a worker, whose socket is standard input")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stop = StopRequest()
    if not arguments.zygote:
        if not _says_what_to_do(arguments.run_dir):
            return EXIT_FAILED
        return _work(arguments.run_dir, stop, wait_seconds=0.0, ring=lambda: None)
    job = zygote.serve(stop, _warm_up)
    if job is None:
        return EXIT_DONE
    from bncore.train.run_directory import LOCK_SECONDS

    # Its supervisor reads the directory while it lives, and after a power cut begins another one.
    return _work(job.run_directory, stop, wait_seconds=LOCK_SECONDS, ring=lambda: hand_over.ring(job), durable=False)


def _run_by_hand(arguments: list[str]) -> int:
    """Train a spec for somebody who looks on."""
    parser = argparse.ArgumentParser(
        prog="python -m bncore run", description="Train a spec, say how far it is, and what came of it."
    )
    parser.add_argument("spec", type=Path, help="a JSON file, or the directory of a run that did not end, to go on")
    parser.add_argument(
        "dir", type=Path, nargs="?", help="where all is written, new or empty; else called as the file, here"
    )
    if not arguments and Path("run").is_dir():
        parser.error("the following arguments are required: spec; the run directory that is here is ./run")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    from bncore.by_hand import Refused, Reporter, prepare

    try:
        layout = prepare(given.spec, given.dir)
    except Refused as error:
        _say(error)
        return EXIT_USAGE
    stop = StopRequest()
    reporter = Reporter(layout)
    return _work(layout.path, stop, wait_seconds=0.0, ring=reporter.look, told=reporter.result)


def _says_what_to_do(run_dir: Path) -> bool:
    """Whether a spec is valid; said before an attempt is made of it, so that a slip does not use up the directory."""
    from bncore.spec import SpecError, load_spec, parse_json
    from bncore.spec.evaluation import load_evaluation
    from bncore.spec.prediction import load_prediction

    layout = RunLayout(run_dir)
    path = layout.spec
    try:
        path = layout.asked(layout.kind)
        if layout.kind == "experiment":
            load_spec(parse_json(path.read_bytes()))
        elif layout.kind == "evaluation":
            document = parse_json(path.read_bytes())
            predicts = isinstance(document, dict) and "inputs" in document
            _ = load_prediction(document) if predicts else load_evaluation(document)
    except SpecError as error:
        for fault in error.faults:
            _say(f"{path}: {fault.pointer}: {fault.detail}" if fault.pointer else f"{path}: {fault.detail}")
        return False
    except (OSError, ValueError) as error:
        _say(error)
        return False
    return True


def _warm_up() -> None:
    with uncollected():
        from bncore.train.warmup import warm_up

    warm_up()


def _work(
    run_dir: Path,
    stop: StopRequest,
    *,
    wait_seconds: float,
    ring: Callable[[], None],
    told: Callable[[object], None] | None = None,
    durable: bool = True,
) -> int:
    from bncore.job import run_job
    from bncore.train.attempt import is_disk_full
    from bncore.train.run_directory import RunDirectoryBusy, RunDirectoryUsed

    try:
        outcome = run_job(run_dir, lambda: stop.asked, wait_seconds=wait_seconds, ring=ring, durable=durable)
    except RunDirectoryBusy as error:
        _say(error)
        return EXIT_BUSY
    except (RunDirectoryUsed, OSError) as error:
        _say(error)
        return EXIT_DISK_FULL if is_disk_full(error) else EXIT_FAILED
    if told is not None:
        told(outcome)
    if outcome.kind == "failed":
        if told is None:
            _say(f"{outcome.code}: {outcome.message}")
        return EXIT_DISK_FULL if outcome.code == "disk_full" else EXIT_FAILED
    return EXIT_DONE


def _say(words: object) -> None:
    # The log is on the disk that may be full.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # With torch in it the interpreter takes a second to tear down; all that matters is on the disk by now.
    os._exit(code)
