"""Steps per second of the trainer over those of a loop written by hand: `python -m bench.steps`.

Both run in turns in one process, so that a busy machine slows both alike; a ratio is the median of neighbours' ratios.
`training` counts the trainer's own training seconds, `whole run` everything from the first step to the last event,
evaluations and checkpoints included.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from bench.hand_written import train_by_hand
from bncore.events import decode
from bncore.spec import ExperimentSpec, load_spec
from bncore.train import run_attempt

NETWORKS: dict[str, dict[str, object]] = {
    "mlp": {"kind": "mlp", "activation": "sigmoid"},
    "mlp, batch renorm": {"kind": "mlp", "activation": "sigmoid", "norm": {"kind": "batch_renorm"}},
    "mlp, none": {"kind": "mlp", "activation": "sigmoid", "norm": {"kind": "none"}},
    "cnn": {"kind": "cnn"},
}


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", choices=list(NETWORKS))
    arguments = parser.parse_args()
    for name, network in NETWORKS.items():
        if arguments.only in (None, name):
            steps = arguments.steps if network["kind"] == "mlp" else arguments.steps // 4
            _compare(name, load_spec({"network": network, "train": {"steps": steps}}), arguments.repeats)


def print_ratios(name: str, steps_per_second: float, **ratios: list[float]) -> None:
    """One line: the speed by hand, and of each kind of ratio its median and quartiles."""
    columns = []
    for kind, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4)
        columns.append(f"{kind.replace('_', ' ')} {middle:.3f} [{low:.3f}, {high:.3f}]")
    sys.stdout.write(f"{name:20} by hand {steps_per_second:7.1f} steps/s   {'   '.join(columns)}\n")
    sys.stdout.flush()


def _compare(name: str, spec: ExperimentSpec, repeats: int) -> None:
    train_by_hand(spec)
    _train(spec)
    by_hand, training, whole = [], [], []
    for _ in range(repeats):
        seconds = train_by_hand(spec)
        counted, run = _train(spec)
        by_hand.append(seconds)
        # Ratios of neighbours in time: the machine's speed drifts more than the two differ.
        training.append(seconds / counted)
        whole.append(seconds / run)
    print_ratios(name, (spec.train.steps or 0) / statistics.median(by_hand), training=training, whole_run=whole)


def _train(spec: ExperimentSpec) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        (run_dir / "spec.json").write_text(json.dumps(spec.model_dump(mode="json")))
        outcome = run_attempt(run_dir)
        assert outcome.kind == "finished", outcome
        events = [decode(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    started = next(event.at for event in events if event.kind == "started")
    return outcome.summary.seconds, outcome.at - started


if __name__ == "__main__":
    main()
