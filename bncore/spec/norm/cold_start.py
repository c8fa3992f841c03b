"""Running statistics that are still those a layer began with."""

COLD_START = 0.05
"""The share of the initial mean 0 and variance 1 from which on it is worth mentioning. At 37 % it ruined a run."""


def initial_share(momentum: float | None, batches: int) -> float:
    """How much of a running average is what it began with: (1 - momentum)^batches, none where all count equally."""
    return float(batches == 0) if momentum is None else (1.0 - momentum) ** batches


def warm_momentum(batches: int) -> float:
    """The least momentum, of two digits, with which no more than `COLD_START` is left after so many batches."""
    exact: float = 1.0 - COLD_START ** (1.0 / batches)
    rounded = float(f"{exact:.1e}")
    # Rounding to the nearest may go down.
    return rounded if rounded >= exact else float(f"{exact * 1.05:.1e}")
