"""Cross-iteration batch normalization: statistics of the last few batches, as the weights of today would give them.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples; K batches in the window;
the layer in front has F weights an output channel and G groups.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bncore.norm._moments import along_channels, channel_axes, statistics_dtype
from bncore.norm._recompute import recall, recomputing, remember
from bncore.norm._slopes import Linear, groups_of, mean_slope, variance_slope
from bncore.norm._snapshot import snapshot
from bncore.norm.batch_norm import BatchNorm

_WINDOW = ("window_mean", "window_var", "window_filled")
_FOLLOWED = ("window_weight", "window_mean_slope", "window_var_slope")


class CrossIterationBatchNorm(BatchNorm):
    """Batch normalization whose statistics are averaged over the last K batches, this one included; for small batches.

    The batch t - i was seen with the weights v of then; those of the layer in front are w today. To first order it
    would give `mean_i(w) = mean_i + <d mean_i / dv, w - v>`, and likewise for the second moment `nu_i`. With
    `m = 1/K sum mean_i(w)` and `nu = 1/K sum max(nu_i(w), mean_i(w)^2)`, training gives
    `y = weight * (x - m) / sqrt(nu - m^2 + eps) + bias`, all per channel (C,). Gradients flow through this batch's
    share of m and nu, not through earlier batches or the compensation. Channel j depends on the weights of output
    channel j only. Until K batches were seen, there are fewer in the sum. Evaluation is plain batch normalization, with
    running averages of each batch's own statistics by torch's rule. Input and output: (N, C, ...).

    `follow(layer)` ties it to the linear or convolutional layer right in front, whose input it then sees; the
    derivatives are `mean patch` and `2 E[output patch]`, taken in the forward pass. Followed by nothing, it does
    not compensate (the paper's "naive" variant). Second moments are kept about the mean, which loses no digits where
    the mean is large: `nu_i(w) - mean_i(w)^2 = var_i + <d var_i / dv, w - v> - <d mean_i / dv, w - v>^2`, the same
    number. A bias in front moves the mean by exactly its change.

    Differences from `torch.nn.BatchNorm*`: the window, which is state: `window_mean`, `window_var`, `window_filled`
    (K - 1, C) and, with a layer in front, `window_weight`, `window_var_slope` (K - 1, C, F), `window_mean_slope`
    (K - 1, G, F). So a training run resumes bit for bit, and the keys are other ones. Batches weigh equally, whatever
    their size. With `window=1` it is batch norm. It can be compiled, and it can be checkpointed, but not both at once.

    arXiv 2002.05712, section 3: the compensation, eq. 8 and 9; the averages over the window, eq. 10 to 13.

    Args:
        num_features: C.
        window: K, at least 1.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: keep statistics that are not finite out of the running averages and out of the window.

    Raises:
        ValueError: for a window below 1; from the forward pass as `BatchNorm`.
        RuntimeError: from the forward pass, when the followed layer did not run before it.
    """

    def __init__(
        self,
        num_features: int,
        window: int = 4,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        if window < 1:
            raise ValueError(f"the window holds at least this batch, got {window}")
        super().__init__(
            num_features, eps, momentum, affine, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias
        )
        self.window = window
        # In a tuple, so that the layer in front does not become a part of this one.
        self._followed: tuple[Linear, ...] = ()
        self._source: Tensor | None = None
        for name in _WINDOW:
            self.register_buffer(name, torch.zeros(window - 1, num_features, device=device, dtype=dtype))

    def follow(self, layer: nn.Module) -> None:
        """Compensate for the steps of `layer`, whose output this layer normalizes; copies of a network stay tied.

        Raises:
            TypeError: for anything but a linear layer or a convolution.
            ValueError: for one with another number of output channels.
            RuntimeError: when it follows one already.
        """
        if self._followed:
            raise RuntimeError("it follows a layer already")
        if not isinstance(layer, Linear):
            raise TypeError(f"only linear layers and convolutions can be followed, got {type(layer).__name__}")
        weight = layer.weight
        if weight.shape[0] != self.num_features:
            raise ValueError(f"the layer has {weight.shape[0]} output channels, not {self.num_features}")
        self._followed = (layer,)
        fan_in = weight[0].numel()
        for name in _FOLLOWED:
            rows = groups_of(layer) if name == "window_mean_slope" else self.num_features
            zeros = torch.zeros(self.window - 1, rows, fan_in, device=weight.device, dtype=weight.dtype)
            self.register_buffer(name, zeros)
        layer.register_forward_pre_hook(self._see_source, with_kwargs=True)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, window={self.window}"

    def reset_running_stats(self) -> None:
        """Running statistics as in a new layer, and an empty window."""
        super().reset_running_stats()
        for name in (*_WINDOW, *_FOLLOWED):
            if name in self._buffers:
                self.get_buffer(name).zero_()

    def _see_source(self, _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.training:
            self._source = args[0] if args else kwargs["input"]

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        source, self._source = self._source, None
        wide, axes = x.to(statistics_dtype(x.dtype)), channel_axes(x)
        mean = wide.mean(axes)
        centred = wide - along_channels(mean, x)
        var = centred.square().mean(axes)
        share, past_mean, past_var = self._past(mean)
        if self._updates():
            with torch.no_grad():
                self._push(centred.detach(), mean.detach(), var.detach(), source)
        count = x.numel() // x.shape[1]
        self._take_in(mean, var * (count / (count - 1)))
        gap = past_mean - mean
        pooled_var = var * (1.0 - share) + share * (past_var + (1.0 - share) * gap.square())
        scale = (pooled_var + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -share * gap * scale
        shift = shift if self.bias is None else shift + self.bias
        return torch.addcmul(along_channels(shift, x), centred, along_channels(scale, x)).to(x.dtype)

    def _past(self, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The share of earlier batches, the mean of their means, and the variance of their values, all (C,)."""
        if recomputing():
            share, past_mean, past_var = recall(self, mean)
            return share, past_mean, past_var
        with torch.no_grad():
            filled = (self.get_buffer("window_filled") > 0).to(mean.dtype)
            means, variances = self._compensated(mean.dtype)
            count = filled.sum(0)
            one_or_more = count.clamp_min(1.0)
            past_mean = (filled * means).sum(0) / one_or_more
            past_var = (filled * (variances + (means - past_mean).square())).sum(0) / one_or_more
            # Detached as well: in a program exported with autocast inside, `no_grad` within that is lost.
            past = snapshot(torch.stack((count / (count + 1.0), past_mean, past_var)).detach())
        remember(self, mean, *past)
        return past[0], past[1], past[2]

    def _compensated(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Means and variances (K - 1, C) of earlier batches as the weights of today would give them."""
        means, variances = (self.get_buffer(name).to(dtype) for name in _WINDOW[:2])
        if not self._followed:
            return means, variances
        (layer,) = self._followed
        old_weight, mean_slope, var_slope = (self.get_buffer(name).to(dtype) for name in _FOLLOWED)
        step = layer.weight.to(dtype).flatten(1) - old_weight
        grouped = step.unflatten(1, (groups_of(layer), -1))
        mean_step = (grouped * mean_slope.unsqueeze(2)).sum(-1).flatten(1)
        var_step = (step * var_slope).sum(-1)
        variances = (variances + var_step - mean_step.square()).clamp_min(0.0)
        means = means + mean_step
        return (means if layer.bias is None else means + layer.bias.to(dtype)), variances

    def _push(self, centred: Tensor, mean: Tensor, var: Tensor, source: Tensor | None) -> None:
        """Put this batch, less its mean, in front of the window, which loses its oldest."""
        if self.window == 1:
            return
        finite = mean.isfinite() & var.isfinite() if self.nan_guard else torch.ones_like(mean, dtype=torch.bool)
        newest = {"window_var": var, "window_filled": finite}
        if not self._followed:
            newest["window_mean"] = mean
        else:
            if source is None:
                raise RuntimeError("the layer that this one follows has to run right before it")
            (layer,) = self._followed
            newest["window_mean"] = mean if layer.bias is None else mean - layer.bias
            newest["window_weight"] = layer.weight.flatten(1)
            newest["window_mean_slope"] = mean_slope(layer, source, centred)
            newest["window_var_slope"] = variance_slope(layer, source, centred)
        for name, value in newest.items():
            window = self.get_buffer(name)
            if self.nan_guard:
                value = torch.where(value.isfinite(), value, 0)
            window.copy_(torch.cat((value.to(window.dtype).unsqueeze(0), window[:-1])))
