"""Steps per second of the trainer over those of a loop written by hand: `python -m bench.steps`.

Both run in turns in one process, so that a busy machine slows both alike; a ratio is the median of neighbours' ratios.
`training` counts the steps alone, `whole run` everything from the first step to the last event, evaluations and
checkpoints included. Above 1 the trainer is the quicker one.
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

ROWS: dict[str, object] = {"kind": "digits", "as": "row"}
MNIST: dict[str, object] = {"kind": "mnist5k"}
NONE: dict[str, object] = {"kind": "none"}
SPECS: dict[str, tuple[int, dict[str, object], dict[str, object]]] = {
    "mlp": (500, {}, {"kind": "mlp", "activation": "sigmoid"}),
    "mlp, batch renorm": (500, {}, {"kind": "mlp", "activation": "sigmoid", "norm": {"kind": "batch_renorm"}}),
    "mlp, none": (500, {}, {"kind": "mlp", "activation": "sigmoid", "norm": NONE}),
    "residual_mlp": (300, {}, {"kind": "residual_mlp"}),
    "deep_linear": (200, {"kind": "santurkar_linear"}, {"kind": "deep_linear"}),
    "cnn": (125, {}, {"kind": "cnn"}),
    "layers": (125, {}, {"kind": "layers", "layers": [{"kind": "conv", "width": 32}, {"kind": "norm"},
                         {"kind": "activation"}, {"kind": "pool"}, {"kind": "flatten"}]}),
    "vgg": (25, {}, {"kind": "vgg", "depth": 11, "pools": 3}),
    "resnet": (25, {}, {"kind": "resnet"}),
    "resnet, mnist5k": (6, MNIST, {"kind": "resnet"}),
    "resnet_v2": (25, {}, {"kind": "resnet_v2"}),
    "depthwise": (15, {}, {"kind": "depthwise"}),
    "rnn": (200, ROWS, {"kind": "rnn", "norm": NONE}),
    "lstm": (150, ROWS, {"kind": "lstm", "norm": NONE}),
    "gru": (150, ROWS, {"kind": "gru", "norm": NONE}),
    "transformer_encoder": (60, ROWS, {"kind": "transformer_encoder"}),
}  # fmt: skip
"""Steps of a run, data, network."""


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longer", type=float, default=1.0, help="factor on the steps of every run")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", choices=list(SPECS), nargs="*")
    arguments = parser.parse_args()
    for name, (steps, data, network) in SPECS.items():
        if arguments.only is None or name in arguments.only:
            train = {"steps": round(arguments.longer * steps)}
            # The loop by hand has no diagnostics; what they cost is measured by `bench.norm_health`.
            spec = {
                "data": data,
                "network": network,
                "train": train,
                "diagnostics": [{"kind": "norm_health", "enabled": False}],
            }
            _compare(name, load_spec(spec), arguments.repeats)


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
        hand = train_by_hand(spec)
        counted, run = _train(spec)
        by_hand.append(hand.training)
        # Ratios of neighbours in time: the machine's speed drifts more than the two differ.
        training.append(hand.training / counted)
        whole.append(hand.whole / run)
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
