"""The training library of BNLab, usable by itself.

Importing `bncore` imports neither torch nor anything of the service; torch comes in with `bncore.norm`,
`bncore.networks`, `bncore.data` and `bncore.train`, and with the first call of `load` or `evaluate`.
"""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from bncore.data import Examples
    from bncore.spec import DataSpec
    from bncore.spec.evaluation import Part, StatisticsSpec

__version__ = "0.1.0"


def load(
    path: str | PathLike[str], device: "torch.device | str" = "cpu", *, averages: str | PathLike[str] | None = None
) -> "torch.nn.Sequential":
    """The trained network of a downloaded checkpoint, in evaluation mode: `bncore.load("model.safetensors")`.

    The file is the weights of a run (`bnlab fetch`, or `checkpoints/*.safetensors` of a run directory); it holds the
    spec of its network, and nothing that is executed. Input: (N, *input_shape) of the data set, output (N, classes).

    `averages` is the training state saved beside it, of a run with `train.ema`: the network then has the averages of
    the weights in their place, and of running statistics.

    Raises:
        FileNotFoundError: where there is no file.
        ValueError: for a file that is damaged (`CheckpointDamaged`), or that is none of ours, is the training state
            beside the weights, or does not hold the weights that its spec asks for, and for averages of another step or
            network, or where there are none (`CheckpointMismatch`).
    """
    # Whoever imports bncore for its specs pays for no torch.
    from bncore.train.loading import load_model

    return load_model(Path(path), device, None if averages is None else Path(averages))


def evaluate(
    model: "torch.nn.Module",
    data: "Examples | tuple[torch.Tensor, ...] | Mapping[str, Any] | DataSpec",
    statistics: "str | Mapping[str, Any] | StatisticsSpec" = "source",
    *,
    part: "Part" = "test",
    batch_size: int = 1024,
    train: "Iterable[Examples]" = (),
) -> dict[str, Any]:
    """Measure a model on data, before and after other statistics are put in the place of its own.

    `bncore.evaluate(bncore.load("model.safetensors"), {"kind": "digits"}, "adabn")`. The model is as before when it
    returns, to the bit: parameters, buffers, modes, random state.

    Args:
        model: any module with outputs (N, K), or (N, T, K) for each step of a sequence, on the device of the data.
        data: a data set as it stands in an experiment's spec, of which `part` is measured; or examples: those of
            `bncore.data`, or a tuple (inputs, targets) or (inputs, targets, lengths). Targets are classes (N,), int64;
            a class for each step (N, T), -1 behind the end; or numbers (N, K), float32.
        statistics: `source` (the model's own), `adabn`, `prediction_time`, `precise`, `tent`, or one of them with its
            options, such as `{"kind": "tent", "lr": 0.01}`: see docs/evaluations.md.
        part: train, validation or test.
        batch_size: of what is only measured: memory, not numbers.
        train: for `precise`, the training data in batches.

    Returns:
        `task`, `examples`, `before` (with the model's own statistics) and `after` (None for `source`), each with the
        loss and what the task has: accuracy, calibration error, precision, recall and F1 of each class, the confusion
        matrix (rows are true classes, up to 100); of a regression the absolute error and R^2. `reason` says why there
        is no `after`: values were not finite. Numbers that are not finite are floats; None is what there is none of.

    Raises:
        ValueError: for data or statistics that are none (`bncore.spec.SpecError`), that do not fit the model, and for
            precise statistics without `train`.
    """
    from bncore.evaluation import evaluate as measured

    return measured(model, data, statistics, part=part, batch_size=batch_size, train=train)
