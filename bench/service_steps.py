"""Steps per second of runs through the service over those of a loop written by hand: `python -m bench.service_steps`.

Same model, data and threads; both in turns on one machine, each run over the mean of the loops before and after it.
Medians, and in brackets the middle half of the repeats. `training` counts the trainer's own training seconds, `whole
run` everything from the first step until the experiment is stored as succeeded: evaluations, checkpoints and their
upload included.

Before that, many runs of a second each, one after another through one worker: the share of training, which is the sum
of their training seconds over the time from the first claim to the last end.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from bench.hand_written import train_by_hand
from bench.steps import SPECS, print_ratios
from bncore.spec import load_spec
from store import migrate
from store.jobs import eventlog
from tests.conftest import RedisServer
from tests.stack import Stack


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longer", type=float, default=4.0, help="factor on the steps of every run")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--only", choices=["small runs", *SPECS])
    parser.add_argument("--small-runs", type=int, default=64)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bnlab-steps-"))
    database_url = f"sqlite:///{directory}/bnlab.db"
    migrate.upgrade(database_url)
    broker = RedisServer()
    broker.start()
    try:
        with Stack(directory, database_url, broker.url) as stack:
            stack.start_warm("relay", "worker")
            if arguments.only in (None, "small runs"):
                _share_of_training(stack, arguments.small_runs)
            for name, (steps, data, network) in SPECS.items():
                if arguments.only in (None, name):
                    train = {"steps": round(arguments.longer * steps)}
                    _compare(stack, name, {"data": data, "network": network, "train": train}, arguments.repeats)
    finally:
        broker.stop()
        shutil.rmtree(directory)


def _share_of_training(stack: Stack, runs: int) -> None:
    """Runs of about a second, whatever the speed of the machine."""
    steps = 400
    steps = round(steps / _train(stack, {"train": {"steps": steps}})[0])
    submitted = [stack.submit({"train": {"steps": steps, "seed": seed}}) for seed in range(runs)]
    rows = [stack.await_state(one, seconds=60.0 + 10.0 * runs) for one in submitted]
    began = min(row.first_claimed_at or 0.0 for row in rows)
    ended = max(row.finished_at or 0.0 for row in rows)
    training = sum((row.summary or {})["seconds"] for row in rows)
    sys.stdout.write(
        f"{runs} runs of {steps} steps: {training:.1f} s of training in {ended - began:.1f} s"
        f"   share of training {training / (ended - began):.3f}\n"
    )
    sys.stdout.flush()


def _compare(stack: Stack, name: str, document: dict[str, object], repeats: int) -> None:
    spec = load_spec(document)
    train_by_hand(spec)
    by_hand = [train_by_hand(spec)]
    training, whole = [], []
    for _ in range(repeats):
        counted, run = _train(stack, document)
        by_hand.append(train_by_hand(spec))
        # The loop before and the loop after: a machine whose speed drifts favours neither side.
        training.append(statistics.mean(hand.training for hand in by_hand[-2:]) / counted)
        whole.append(statistics.mean(hand.whole for hand in by_hand[-2:]) / run)
    seconds = statistics.median(hand.training for hand in by_hand)
    print_ratios(name, (spec.train.steps or 0) / seconds, training=training, whole_run=whole)


def _train(stack: Stack, document: dict[str, object]) -> tuple[float, float]:
    """Training seconds, and seconds from start to stored success."""
    experiment_id = stack.submit(document)
    row = stack.await_state(experiment_id, seconds=600.0)
    assert row.state == "succeeded", row.failure_message
    assert row.summary is not None
    with stack.database.read() as session:
        lines = eventlog.page(session, experiment_id)
    started = next(line.trainer_at for line in lines if line.kind == "started")
    assert started is not None
    assert row.finished_at is not None
    return float(row.summary["seconds"]), row.finished_at - started


if __name__ == "__main__":
    main()
