"""The training library of BNLab, usable by itself.

Importing `bncore` imports neither torch nor anything of the service; torch comes in with `bncore.norm`,
`bncore.networks`, `bncore.data` and `bncore.train`, and with the first call of `load`.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__version__ = "0.1.0"


def load(
    path: str | PathLike[str], device: "torch.device | str" = "cpu", *, averages: str | PathLike[str] | None = None
) -> "torch.nn.Sequential":
    """The trained network of a downloaded checkpoint, in evaluation mode: `bncore.load("model.safetensors")`.

    The file is the weights of a run (`bnlab fetch`, or `checkpoints/*.safetensors` of a run directory); it holds the
    spec of its network, and nothing that is executed. Input: (N, *input_shape) of the data set, output (N, classes). Of
    data that were standardized (`data.standardize`), the input is (x - mean) / deviation with the two lists that the
    file's metadata name `standardization`.

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
