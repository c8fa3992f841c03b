"""Noise that changes with every step of training, in the words of its paper."""

from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.norm.place import NormModel


class Noised(NormModel):
    """How much there is of it."""

    mean_range: float = Field(
        default=0.5, ge=0.0, le=1e3, description="n_mu: each channel's mean is drawn from +-n_mu."
    )
    std_range: float = Field(
        default=1.25, ge=1.0, le=1e3, description="n_sigma: each channel's scale is drawn from [1, n_sigma]."
    )
    mean_jitter: float = Field(default=0.1, ge=0.0, le=1e3, description="r_mu: spread of each value's own mean.")
    std_jitter: float = Field(default=0.1, ge=0.0, le=1e3, description="r_sigma: spread of each value's own scale.")


class NoiseNormSpec(Noised):
    """The noise of noisy_batch_norm without its normalization (arXiv 1805.11604, 2.1): the control; nothing learned."""

    # It has no statistics, but a value's noise goes by its place in the batch, which is one among the valid steps.
    counts_padding: ClassVar[bool] = True

    kind: Literal["noise"] = "noise"
