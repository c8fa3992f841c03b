"""What diagnostics cost a run: `python -m bench.norm_health`. Wanted: at most 3 % for what is on by default.

Runs with norm_health as it is by default and runs without it take turns in one process; a share is the median over
pairs of neighbours. CPU seconds of the whole run, from reading the spec to the last event, so that what else a machine
does counts for neither; `measured` is what the run says of itself (`diagnostics/seconds`) over its seconds of training.
With `--all` a line for each other diagnostic, measured once: in steps of training.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bncore.events import MetricsBlock, decode
from bncore.spec import kinds, load_spec
from bncore.train import run_attempt

OFF: list[dict[str, Any]] = [{"kind": "norm_health", "enabled": False}]
SPECS: dict[str, dict[str, Any]] = {
    "digits, mlp, 20 epochs": {"network": {"kind": "mlp"}},
    "digits, mlp": {"network": {"kind": "mlp"}, "train": {"steps": 3000}},
    "digits, mlp, batch renorm": {
        "network": {"kind": "mlp", "norm": {"kind": "batch_renorm"}},
        "train": {"steps": 3000},
    },
    "digits, cnn": {"network": {"kind": "cnn"}, "train": {"steps": 1000}},
}


def main() -> None:
    """Print a line for each spec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="the other diagnostics as well")
    arguments = parser.parse_args()
    for name, spec in SPECS.items():
        _compare(name, spec, arguments.repeats)
        if arguments.all:
            _each(spec)


def _compare(name: str, spec: dict[str, Any], repeats: int) -> None:
    _run({**spec, "diagnostics": OFF})
    shares, measured, steps_per_second = [], [], []
    for _ in range(repeats):
        without, seconds, _ = _run({**spec, "diagnostics": OFF})
        with_them, trained, said = _run(spec)
        shares.append(with_them / without - 1.0)
        measured.append(said / trained)
        steps_per_second.append(seconds)
    low, middle, high = statistics.quantiles(shares, n=4)
    sys.stdout.write(
        f"{name:28} {statistics.median(steps_per_second):6.2f} s   norm_health {middle:+7.2%} [{low:+.2%}, {high:+.2%}]"
        f" of CPU   measured {statistics.median(measured):6.2%}\n"
    )
    sys.stdout.flush()


def _each(spec: dict[str, Any]) -> None:
    for kind in (found.kind for found in kinds("diagnostics")):
        asked = [{"kind": kind, "at": [0, 100]}, *(OFF if kind != "norm_health" else ())]
        _, trained, said = _run({**spec, "diagnostics": asked})
        steps = load_spec(spec).train.steps or 480
        sys.stdout.write(f"    {kind:24} {said / 2:7.3f} s each   {said / 2 / (trained / steps):8.1f} steps\n")
        sys.stdout.flush()


def _run(spec: dict[str, Any]) -> tuple[float, float, float]:
    """CPU seconds of a run, its seconds of training, and those of its diagnostics."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        (run_dir / "spec.json").write_text(load_spec(spec).model_dump_json())
        began = time.process_time()
        outcome = run_attempt(run_dir)
        took = time.process_time() - began
        assert outcome.kind == "finished", outcome
        events = [decode(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    blocks = [event.values for event in events if isinstance(event, MetricsBlock)]
    said = [block["diagnostics/seconds"][-1] for block in blocks if "diagnostics/seconds" in block]
    return took, outcome.summary.seconds, said[-1] if said else 0.0


if __name__ == "__main__":
    main()
