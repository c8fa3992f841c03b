"""What the questions share: train every arm with the same seeds, wait, print mean ± sd over seeds.

Invariant: what is printed is of the runs of this call alone, each found by its id; where a run has no number none
stands for it. Arms with one seed see the same batches, and where their weights have the same shapes begin with them,
so that the difference of two is free of what the seed does to both.
"""

import argparse
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client import Client

Spec = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Of each arm: the experiments in the order of their seeds, and what each of them measured."""

    experiments: Mapping[str, list[str]]
    values: Mapping[str, list[dict[str, float | None]]]

    def column(self, arm: str, measure: str) -> list[float | None]:
        """What an arm measured, by seed; None where there is no finite number."""
        values = [found.get(measure) for found in self.values[arm]]
        return [value if value is not None and math.isfinite(value) else None for value in values]


def ask(
    client: Client,
    question: str,
    arms: Mapping[str, Spec],
    measures: Sequence[str] = ("test/accuracy",),
    seeds: int = 3,
) -> Answer:
    """Train `arms` with seeds 0, 1, ...; each is tagged `question:<question>`, and named for its arm.

    What the options `--steps` and `--seeds` of the script say comes first. Raises `ApiError` where a spec
    is refused, `RuntimeError` where a run fails.
    """
    asked = _options(question, seeds)
    if asked.steps is not None:
        question = f"{question}-{asked.steps}-steps"
    submitted = {
        arm: [_submit(client, question, arm, spec, seed, asked) for seed in range(asked.seeds)]
        for arm, spec in arms.items()
    }
    everything = [one for ids in submitted.values() for one in ids]
    for one in everything:
        if (ended := client.wait(one))["state"] != "succeeded":
            raise RuntimeError(f"{one} {ended['state']}; `bnlab show {one}` says why")
    found = client.compare(everything, measures=measures)
    runs = {run["id"]: run for group in found["groups"] for run in group["runs"]}
    answer = Answer(submitted, {arm: [runs[one]["values"] for one in ids] for arm, ids in submitted.items()})
    for measure in measures:
        print_rows(measure, {arm: answer.column(arm, measure) for arm in arms})
    for arm, ids in submitted.items():
        if diverged := sum(runs[one]["stop_reason"] == "diverged" for one in ids):
            print(f"diverged: {arm}, {diverged} of {len(ids)}")
    print(f"\nbnlab compare --tag question={question}    # and the same of earlier calls")
    return answer


def print_rows(title: str, rows: Mapping[str, Sequence[float | None]]) -> None:
    """A line an arm: mean ± sd (n-1 in the denominator) of what is there, and of how many runs there is nothing."""
    print(f"\n{title}")
    for row, values in rows.items():
        print(f"  {row + ':':<41} {mean_and_deviation(values)}")


def print_differences(answer: Answer, measure: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Of each pair, first minus second, seed by seed; seeds without a number on either side are left out."""
    rows = {}
    for first, second in pairs:
        both = zip(answer.column(first, measure), answer.column(second, measure), strict=True)
        rows[f"{first} minus {second}"] = [None if a is None or b is None else a - b for a, b in both]
    print_rows(f"{measure}, paired differences", rows)


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """Such as `0.912 ± 0.004 (n 3)`."""
    there = [value for value in values if value is not None]
    if not there:
        return f"- (none in {len(values)} of {len(values)})"
    deviation = f" ± {statistics.stdev(there):.2g}" if len(there) > 1 else ""
    missing = f", none in {len(values) - len(there)} of {len(values)}" if len(there) < len(values) else ""
    return f"{statistics.fmean(there):.4g}{deviation} (n {len(there)}{missing})"


def _submit(client: Client, question: str, arm: str, spec: Spec, seed: int, asked: argparse.Namespace) -> str:
    train = {**spec["train"], "seed": seed} | ({} if asked.steps is None else {"steps": asked.steps})
    tags = {"question": question, "arm": arm}
    submitted = client.submit({**spec, "name": f"{question}: {arm}", "tags": tags, "train": train})
    return str(submitted["id"])


def _options(question: str, seeds: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"The question: {question.replace('-', ' ')}.")
    parser.add_argument("--steps", type=int, help="train so many steps instead: to see that it runs, not to conclude")
    parser.add_argument("--seeds", type=int, default=seeds, help="so many seeds an arm (%(default)s)")
    return parser.parse_args()
