"""Claims by the library alone, without the service: `python -m bench.claims NAME ... [--scale cpu] [--keep DIR]`.

Each batch of a claim is trained here, one experiment after the other or in `--processes`, and given back until there
is a report. With `--keep`, finished runs are written to DIR/<claim>-<scale>.jsonl and not trained again.
Printed per claim: runs, steps and CPU seconds; per question the verdict, effect, interval, and what stands beside it.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bncore.events import Finished, MetricsBlock, decode
from bncore.spec import ExperimentSpec
from bncore.studies.claim import Claim, Design, Experiment, experiments
from bncore.studies.claims import CLAIMS
from bncore.studies.measures import Series, diverged, measured
from bncore.studies.reports import Report, answer
from bncore.studies.results import results
from bncore.studies.verdict import Verdict


@dataclass
class Kept:
    """Runs that have ended, as `results` reads them."""

    path: Path | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def load(self) -> None:
        """What an earlier call has left."""
        if self.path and self.path.exists():
            self.rows = [json.loads(line) for line in self.path.read_text().splitlines()]

    def add(self, row: dict[str, Any]) -> None:
        """One more, kept at once."""
        self.rows.append(row)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def main() -> None:
    """Run the claims that are named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(CLAIMS), metavar="NAME")
    parser.add_argument("--scale", choices=("tiny", "cpu", "gpu"), default="cpu")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    for name in arguments.names:
        kept = Kept(arguments.keep and arguments.keep / f"{name}-{arguments.scale}.jsonl")
        kept.load()
        design = CLAIMS[name].design(arguments.scale, arguments.seeds)
        _show(name, run(CLAIMS[name], design, kept, arguments.processes), kept)


def run(claim: Claim, design: Design, kept: Kept, processes: int = 1) -> Report:
    """From the design to the report; what is in `kept` is not trained again."""
    done: list[str] = []
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        while not isinstance(step := answer(claim, design, results(kept.rows, done)), Report):
            known = {_identity(row) for row in kept.rows}
            asked = [one for one in experiments(design, step) if _identity(_row(one, step.stage)) not in known]
            each = map if processes == 1 else pool.map
            for row in each(partial(trained, design, step.stage), asked):
                kept.add(row)
            done.append(step.stage)
    return step


def trained(design: Design, stage: str, asked: Experiment) -> dict[str, Any]:
    """A row of `results`, with `cpu_seconds` and `steps` of the run beside."""
    # A trainer process of the service has torch; who designs a study has not.
    from bncore.train import run_attempt

    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="bnlab-claims-") as name:
        path = Path(name) / "run"
        path.mkdir()
        (path / "spec.json").write_text(ExperimentSpec.model_validate(asked.spec).canonical_json())
        ended = run_attempt(path)
        series = _series(path / "events.jsonl")
    row = {
        **_row(asked, stage),
        "cpu_seconds": time.process_time() - began,
        "steps": ended.step if isinstance(ended, Finished) else 0,
    }
    # What has failed is a run without numbers.
    metrics = measured(design.measures, series) if isinstance(ended, Finished) else {}
    return {**row, "metrics": metrics, "diverged": diverged(series)}


def _row(asked: Experiment, stage: str) -> dict[str, Any]:
    place = asked.place
    return {"arm": place.arm, "setting": dict(place.setting), "seed": asked.seed, "stage": stage}


def _identity(row: dict[str, Any]) -> str:
    return json.dumps([row["stage"], row["arm"], sorted(row["setting"].items()), row["seed"]])


def _series(events: Path) -> Series:
    found: dict[str, tuple[list[int], list[float]]] = {}
    for event in map(decode, events.read_bytes().splitlines()):
        if isinstance(event, MetricsBlock):
            for key, values in event.values.items():
                steps, known = found.setdefault(key, ([], []))
                steps += range(event.first_step, event.first_step + event.count)
                known += values
    return found


def _show(name: str, report: Report, kept: Kept) -> None:
    seconds, steps = (sum(row[key] for row in kept.rows) for key in ("cpu_seconds", "steps"))
    print(f"{name}: {len(kept.rows)} runs, {steps} steps, {seconds:.0f} CPU seconds", flush=True)
    for verdict in report.verdicts:
        print("\n".join(_lines(verdict)), flush=True)


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"  {verdict.name}: {verdict.outcome} {verdict.label or ''}"
    if verdict.estimated:
        span = verdict.estimated.interval
        p = verdict.estimated.tests.decision_holm
        yield f"    effect {verdict.estimated.effect:.4f} [{span.low:.4f}, {span.high:.4f}], n {verdict.n}, p {p:.2g}"
    yield f"    {verdict.sentence}"
    for guard in verdict.guards:
        yield f"    {'passed' if guard.passed else 'FAILED'} {guard.name}: {guard.sentence}"
    if verdict.measured:
        yield "    " + ", ".join(f"{key} {value:.4g}" for key, value in verdict.measured.items())


if __name__ == "__main__":
    main()
