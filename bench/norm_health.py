"""What diagnostics cost a run: `python -m bench.norm_health`. Wanted: at most 3 % for what is on by default, and 5 % of
runs that are over before they have begun.

CPU seconds of whole runs, from reading the spec to the last event. `within` is what diagnostics took of a run over the
rest of that run: both under the same load, so that it holds on a busy machine, too. `pairs` compares neighbouring runs
with and without, which take turns, and shows what else norm_health may cost; its noise is that of two runs. `wall` is
what the run says of itself (`diagnostics/seconds`) over its seconds of training. Medians, with quartiles in brackets.
With `--all` a line for each other diagnostic: in steps of training, and over what `validate` takes it for.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.steps import MNIST, ROWS
from bncore.events import MetricsBlock, decode
from bncore.spec import SpecError, data_shape, kinds, load_spec, plan
from bncore.spec.diagnostics.fitting import cost
from bncore.spec.plan import laid_network
from bncore.train import run_attempt
from bncore.train.diagnosing import Diagnosing
from bncore.train.progress import Progress

OFF: list[dict[str, Any]] = [{"kind": "norm_health", "enabled": False}]
SPECS: dict[str, dict[str, Any]] = {
    "digits, mlp, 20 epochs": {"network": {"kind": "mlp"}},
    "digits, mlp": {"network": {"kind": "mlp"}, "train": {"steps": 3000}},
    "digits, mlp, batch renorm": {
        "network": {"kind": "mlp", "norm": {"kind": "batch_renorm"}},
        "train": {"steps": 3000},
    },
    "digits, cnn, 20 epochs": {"network": {"kind": "cnn"}},
    "digits, cnn": {"network": {"kind": "cnn"}, "train": {"steps": 1000}},
    "digits, mlp, 30 steps": {"network": {"kind": "mlp"}, "train": {"steps": 30}},
    "digits, mlp, 200 steps": {"network": {"kind": "mlp"}, "train": {"steps": 200}},
    "digits, resnet, 10 steps": {"network": {"kind": "resnet"}, "train": {"steps": 10}},
    "mnist5k, resnet, 4 steps": {"data": MNIST, "network": {"kind": "resnet"}, "train": {"steps": 4}},
    "rows, lstm, 10 steps": {"data": ROWS, "network": {"kind": "lstm"}, "train": {"steps": 10}},
}


class _Run(NamedTuple):
    """CPU seconds, those of them in diagnostics, and what the run says: of training, of diagnostics."""

    cpu: float
    diagnosing: float
    trained: float
    said: float


def main() -> None:
    """Print a line for each spec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="lines whose name has this")
    parser.add_argument("--all", action="store_true", help="the other diagnostics as well")
    arguments = parser.parse_args()
    for name, spec in ((name, spec) for name, spec in SPECS.items() if arguments.only in name):
        _compare(name, spec, arguments.repeats)
        if arguments.all:
            _each(spec)


def _compare(name: str, spec: dict[str, Any], repeats: int) -> None:
    _run({**spec, "diagnostics": OFF})
    runs = [(_run({**spec, "diagnostics": OFF}), _run(spec)) for _ in range(repeats)]
    within = [on.diagnosing / (on.cpu - on.diagnosing) for _, on in runs]
    pairs = [on.cpu / off.cpu - 1.0 for off, on in runs]
    wall = statistics.median(on.said / on.trained for _, on in runs)
    cpu = statistics.median(off.cpu for off, _ in runs)
    sys.stdout.write(f"{name:26} {cpu:6.2f} s   within {_spread(within)}   pairs {_spread(pairs)}   wall {wall:.2%}\n")
    sys.stdout.flush()


def _spread(shares: list[float]) -> str:
    low, middle, high = statistics.quantiles(shares, n=4)
    return f"{middle:+.2%} [{low:+.2%}, {high:+.2%}]"


def _each(spec: dict[str, Any]) -> None:
    for kind in (found.kind for found in kinds("diagnostics")):
        asked = {**spec, "diagnostics": [{"kind": kind, "at": [2, 4]}, *(OFF if kind != "norm_health" else ())]}
        try:
            loaded = load_spec(asked)
        except SpecError:
            # The network does not have what it measures.
            continue
        run, sizes, steps = _run(asked), data_shape(loaded.data), plan(loaded).total_steps
        laid = laid_network(loaded.network, sizes.signal, sizes.outputs)
        share = cost(loaded.diagnostics[0], loaded.train, steps, sizes, laid)
        each = run.said / 2 * steps / run.trained
        sys.stdout.write(f"    {kind:24} {run.said / 2:7.3f} s each   {each:8.1f} steps")
        sys.stdout.write(f"   {run.said / run.trained / share:5.2f} of the estimate\n")
        sys.stdout.flush()


def _run(spec: dict[str, Any]) -> _Run:
    with tempfile.TemporaryDirectory() as folder, _watched() as diagnosing:
        run_dir = Path(folder)
        (run_dir / "spec.json").write_text(load_spec(spec).model_dump_json())
        began = time.process_time()
        outcome = run_attempt(run_dir)
        took = time.process_time() - began
        assert outcome.kind == "finished", outcome
        events = [decode(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    blocks = [event.values for event in events if isinstance(event, MetricsBlock)]
    said = [block["diagnostics/seconds"][-1] for block in blocks if "diagnostics/seconds" in block]
    return _Run(took, sum(diagnosing), outcome.summary.seconds, said[-1] if said else 0.0)


@contextmanager
def _watched() -> Iterator[list[float]]:
    """Within it, the CPU seconds of each time that a run diagnoses."""
    took: list[float] = []
    plain = Diagnosing.run

    def run(self: Diagnosing, progress: Progress, *, at_end: bool) -> None:
        began = time.process_time()
        plain(self, progress, at_end=at_end)
        took.append(time.process_time() - began)

    Diagnosing.run = run  # type: ignore[method-assign]
    try:
        yield took
    finally:
        Diagnosing.run = plain  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
