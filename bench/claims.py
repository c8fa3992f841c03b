"""Claims of the article, run by the library: designs from their first batch to their verdicts, without a service.

    python -m bench.claims covariate-shift --scale cpu [--seeds 10] [--processes 1] [--keep runs.jsonl] [--json v.json]

Each experiment trains in a directory that is deleted behind it; what remains is a row of numbers, with the CPU seconds
it took. With `--keep` rows stand in a file, and are not run a second time: a run that was ended goes on, and a finished
one is judged again. One thread an experiment, like the service.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from bncore.events import CheckpointSaved, Concluded, Event, Finished, MetricsBlock, decode
from bncore.job import run_job
from bncore.run_directory import RunLayout
from bncore.spec import ExperimentSpec
from bncore.spec.evaluation import load_evaluation
from bncore.studies.claim import Batch, Design, Experiment, evaluations, experiments
from bncore.studies.claims import CLAIMS
from bncore.studies.measures import diverged, evaluation_metrics, measured
from bncore.studies.reports import Report, answer
from bncore.studies.results import Results, results
from bncore.studies.verdict import Verdict, document
from bncore.train import run_attempt

Row = dict[str, Any]


def trained(design: Design, stage: str, asked: Experiment, root: Path) -> Row:
    """What an experiment leaves to a study, from the series that a service would store; trained below `root`.

    Raises:
        RuntimeError: it failed, or an evaluation of it did.
    """
    whole = Path(tempfile.mkdtemp(dir=root))
    path = whole / "run"
    path.mkdir()
    began = time.process_time()
    try:
        (path / "spec.json").write_text(ExperimentSpec.model_validate(asked.spec).canonical_json())
        ended = run_attempt(path)
        if not isinstance(ended, Finished):
            raise RuntimeError(f"{asked.place} with seed {asked.seed}: {ended}")
        events = [decode(line) for line in (path / "events.jsonl").read_bytes().splitlines()]
        series = _series(events)
        evaluated = _evaluated(design, asked, path, events)
    finally:
        shutil.rmtree(whole)
    return {
        "stage": stage,
        "arm": asked.place.arm,
        "setting": dict(asked.place.setting),
        "seed": asked.seed,
        "metrics": {**measured(design.measures, series), **evaluated},
        "diverged": diverged(series),
        "seconds": time.process_time() - began,
    }


def answered(design: Design, rows: list[Row], root: Path, keep: Path | None = None, processes: int = 1) -> Report:
    """Batch after batch until the report; `rows`, those that are known, grow."""
    claim, done = CLAIMS[design.claim], list[str]()
    while isinstance(asked := answer(claim, design, _found(rows, done)), Batch):
        for row in _trained(design, asked, _missing(design, asked, rows), root, processes):
            rows.append(row)
            if keep is not None:
                with keep.open("a") as lines:
                    lines.write(json.dumps(row) + "\n")
        done.append(asked.stage)
    return asked


def _found(rows: list[Row], done: Sequence[str]) -> Results:
    """NaN and infinity are numbers in these rows, as in a store."""
    return results([row for row in rows if row["stage"] in done], done)


def _missing(design: Design, batch: Batch, rows: list[Row]) -> list[Experiment]:
    known = {(row["stage"], row["arm"], json.dumps(row["setting"]), row["seed"]) for row in rows}
    return [
        each
        for each in experiments(design, batch)
        if (batch.stage, each.place.arm, json.dumps(dict(each.place.setting)), each.seed) not in known
    ]


def _trained(design: Design, batch: Batch, missing: list[Experiment], root: Path, processes: int) -> Iterator[Row]:
    train = partial(_alone, design, batch.stage, root)
    if processes == 1:
        yield from map(train, missing)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(train, missing)


def _alone(design: Design, stage: str, root: Path, asked: Experiment) -> Row:
    torch.set_num_threads(1)
    return trained(design, stage, asked, root)


def _evaluated(design: Design, asked: Experiment, run: Path, events: Sequence[Event]) -> dict[str, float | None]:
    """Numbers of the evaluations of its last checkpoint, each made beside the directory of the run."""
    last = [each for each in events if isinstance(each, CheckpointSaved) and each.checkpoint_kind == "last"][-1]
    metrics: dict[str, float | None] = {}
    for name, spec in evaluations(design, asked.place.arm).items():
        layout = RunLayout(run.parent / name)
        layout.checkpoint.mkdir(parents=True)
        layout.checkpoint_weights.symlink_to(run / last.weights.file)
        layout.evaluation.write_text(load_evaluation(dict(spec)).canonical_json())
        ended = run_job(layout.path)
        if not isinstance(ended, Concluded):
            raise RuntimeError(f"{name} of {asked.place} with seed {asked.seed}: {ended}")
        metrics |= evaluation_metrics(name, ended.result)
    return metrics


def _series(events: Sequence[Event]) -> dict[str, tuple[list[int], list[float]]]:
    series: dict[str, tuple[list[int], list[float]]] = {}
    for event in events:
        if isinstance(event, MetricsBlock):
            for key, values in event.values.items():
                steps, known = series.setdefault(key, ([], []))
                steps += range(event.first_step, event.first_step + event.count)
                known += values
    return series


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.name}: {verdict.outcome} ({verdict.label or '-'}). {verdict.sentence}"
    if verdict.estimated:
        span, p = verdict.estimated.interval, verdict.estimated.tests.decision_holm
        yield f"    effect {verdict.estimated.effect:.4f} [{span.low:.4f}, {span.high:.4f}], n {verdict.n}, p {p:.2g}"
    for guard in verdict.guards:
        yield f"    {'passed' if guard.passed else 'FAILED'} {guard.name}: {guard.sentence}"
    if verdict.measured:
        yield "    " + ", ".join(f"{key} {value:.4g}" for key, value in verdict.measured.items())


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("claim", choices=CLAIMS, nargs="?", default="gradients-explode-with-depth")
    parser.add_argument("--scale", default="cpu", choices=("tiny", "cpu", "gpu"))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a file of rows, one a line")
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked = parser.parse_args()
    design = CLAIMS[asked.claim].design(asked.scale, asked.seeds)
    kept = asked.keep is not None and asked.keep.exists()
    rows = [json.loads(line) for line in asked.keep.read_text().splitlines()] if kept else []
    with tempfile.TemporaryDirectory() as root:
        report = answered(design, rows, Path(root), asked.keep, asked.processes)
    if asked.json is not None:
        asked.json.write_text(json.dumps(document(report), allow_nan=False))
    for verdict in report.verdicts:
        print("\n".join(_lines(verdict)))
    minutes = sum(row["seconds"] for row in rows) / 60
    print(f"{asked.claim}, {asked.scale}: {len(rows)} experiments, {minutes:.1f} minutes of CPU")


if __name__ == "__main__":
    main()
