"""A network measured on data before and after its statistics are put in the place of others.

Invariant: the network is left as it was, to the bit: parameters, buffers, modes, gradients, random state.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from bncore.data import DataSet, Examples, Part, load_data
from bncore.evaluation.predicting import predicted
from bncore.evaluation.scores import scores_for, task_of
from bncore.norm.model.feed import evaluation_mode
from bncore.norm.model.untouched import untouched
from bncore.spec.data import DataSpec, Task
from bncore.spec.evaluation import Part as PartName
from bncore.spec.evaluation import SourceStatistics, StatisticsSpec
from bncore.spec.faults import SpecError, faults_of

_STATISTICS: TypeAdapter[StatisticsSpec] = TypeAdapter(StatisticsSpec)
_DATA: TypeAdapter[DataSpec] = TypeAdapter(DataSpec)


class Found(NamedTuple):
    """What an evaluation found: numbers for the result, and large arrays by their names."""

    result: dict[str, Any]
    arrays: dict[str, NDArray[np.int64]]


def evaluate(
    model: nn.Module,
    data: Examples | tuple[Tensor, ...] | Mapping[str, Any] | DataSpec,
    statistics: str | Mapping[str, Any] | StatisticsSpec = "source",
    *,
    part: PartName = "test",
    batch_size: int = 1024,
    train: Iterable[Examples] = (),
) -> dict[str, Any]:
    """Accuracy, loss, confusion and calibration of a model on data; see `bncore.evaluate`."""
    asked = _checked(_STATISTICS, statistics)
    if asked.kind == "precise" and not train:
        raise ValueError("precise statistics are measured on training data; give them as train")
    examples = _examples(data, part)
    task, outputs = task_of(examples.all_targets()), _outputs_of_model(model, examples)
    return measure(model, examples, task, outputs, asked, batch_size, train).result


def measure(
    model: nn.Module,
    examples: Part,
    task: Task,
    outputs: int,
    statistics: StatisticsSpec,
    batch_size: int,
    train: Iterable[Examples],
    between: Callable[[], None] = lambda: None,
) -> Found:
    """What is found of a network with so many outputs; `between` is called behind each batch."""

    def score(asked: StatisticsSpec) -> Found:
        scores = scores_for(task, outputs)
        for of, batch in predicted(model, examples, asked, batch_size, train):
            scores.add(of, batch)
            between()
        return Found(scores.result(), scores.files())

    with evaluation_mode(model), untouched(model):
        before = score(SourceStatistics())
        found: dict[str, Any] = {"task": task, "examples": examples.size, "before": before.result}
        found |= {"after": None, "reason": None}
        arrays = {f"before/{name}": values for name, values in before.arrays.items()}
        if statistics.kind != "source":
            try:
                after = score(statistics)
            except ValueError as error:
                # Weights that diverged make values that are not finite: a result, and no failure.
                found["reason"] = str(error)
            else:
                found["after"] = after.result
                arrays |= {f"after/{name}": values for name, values in after.arrays.items()}
    return Found(found, arrays)


def _examples(data: Any, part: PartName) -> Part:
    if isinstance(data, Examples):
        return data
    if isinstance(data, tuple):
        return Examples(*data)
    loaded: DataSet = load_data(_checked(_DATA, data))
    if part not in loaded.parts:
        raise ValueError(f"the data have no {part} part")
    return loaded.parts[part]


def _checked(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(dict(value) if isinstance(value, Mapping) else value)
    except ValidationError as error:
        union = DataSpec if adapter is _DATA else StatisticsSpec
        raise SpecError(faults_of(error, union)) from None


def _outputs_of_model(model: nn.Module, examples: Part) -> int:
    """How many numbers come out for an example, or for a step of one."""
    with evaluation_mode(model), untouched(model):
        for of, _ in predicted(model, examples.slice(0, 1), SourceStatistics(), 1, ()):
            return of.shape[-1]
    raise ValueError("there are no examples to measure")
