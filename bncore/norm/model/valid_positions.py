"""Masks and lengths for the layers inside a model, none of whose modules would pass them on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from torch import Tensor, nn

from bncore.norm._valid import TakesValid, Valid, handed
from bncore.norm.model.found import path


@contextmanager
def valid_positions(
    model: nn.Module,
    mask: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    where: Callable[[str, nn.Module], bool] | None = None,
) -> Iterator[None]:
    """Within it, the masked layers of a model know which positions of their input are valid; nothing else counts.

    `with valid_positions(model, mask=~padding): y = model(x, src_key_padding_mask=padding)`, in training, evaluation,
    and as `forward` of `bncore.norm.recalibrate` and the like. The layers are `MaskedBatchNorm`, which `convert` makes
    of any normalization, `SequenceBatchNorm`, and those of `bncore.networks` that look at more than one step. Arguments
    that a layer is called with come first.

    One mask is for all layers, so it has to fit the input of each: a layer behind a stride or a pooling has other
    positions and refuses it. Hand that part of the model a mask of its own, `valid_positions(model.head, coarse)`,
    which may be nested, or leave it out by `where`. A shape is all that can be compared. Where the number of examples
    equals that of steps, mind the order of the axes.

    A forward pass that activation checkpointing repeats has to repeat within it: call `backward` there too; elsewhere
    it is refused. So is `torch.export`, whose program would keep the mask as a constant.

    Args:
        model: any module, with masked layers.
        mask: bool, True where valid, of the shape of the layers' input without its channels: (N, L) for (N, C, L) and
            for (N, L, C) along the last axis, (L, N) for (L, N, C) there, (N, H, W) for (N, C, H, W). For
            `SequenceBatchNorm` always (N, L); packed sequences know their own.
        lengths: int (N,), the number of valid steps of each example of (N, C, L) or (N, L, C), instead of a mask.
        where: called with the path and the layer; only layers for which it is true are told.

    Raises:
        ValueError: where neither or both were given, or the model has no such layer; from the forward pass of a layer,
            with its path, for a mask or lengths that do not fit.
    """
    if mask is None and lengths is None:
        raise ValueError("a mask or lengths have to say which positions are valid")
    layers: list[tuple[TakesValid, Valid]] = [
        (layer, Valid(mask, lengths, path(name, cast(nn.Module, layer))))
        for name, layer in model.named_modules()
        if isinstance(layer, TakesValid) and (where is None or where(name, cast(nn.Module, layer)))
    ]
    if not layers:
        raise ValueError("the model has no layer that takes a mask; `convert` it to masked_batch_norm")
    with handed(layers):
        yield
