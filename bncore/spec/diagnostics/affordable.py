"""What `norm_health` may take of a run when nobody has asked for it: some percent, however short the run is.

Invariant: what is measured is a function of the spec and the steps that are done, never of a clock, so that a run that
is resumed, or trained elsewhere, measures the same. Passes of one example are what is counted: a step of training takes
three of each of its examples.
"""

from typing import NamedTuple

LEAST_STEPS = 200
"""Below, no pass is spent on the layers: it takes as long as up to four steps, and ten of the smallest networks."""
_TRAINED_FOR_A_PASS = 16
"""Examples that are trained on for each that is passed for the accuracies. By the count that is 2 % of the steps, and
1.1 % of their time, as these passes are of large batches and keep nothing (`bench.norm_health`)."""
_STEP_OF_AT_LEAST = 16
"""A step of few examples takes as long as one of so many: what is not arithmetic takes as long for all."""
LEAST_TESTED = 256
"""Of fewer examples, 5 points between two accuracies that differ on a tenth of them are noise (sd 2 points)."""
LEAST_PRECISE, MOST_PRECISE = 256, 10_000
"""Training examples for precise statistics: of the first, means are off by 6 % of a standard deviation, where rows have
one value a channel; arXiv 2105.07576, section 3.2, finds a tenth of the second enough for images."""
_PRECISE_SHARE = 96
"""Of so many that are trained on, one is looked at again for them, within these bounds."""


class Measured(NamedTuple):
    """On how many examples accuracies are measured: of the test data, and of the training data for their statistics."""

    tested: int
    precise: int


def precise_examples(trained: int) -> int:
    """For precise statistics, of a run of so many examples; where there are fewer, all."""
    return min(max(trained // _PRECISE_SHARE, LEAST_PRECISE), MOST_PRECISE)


def affordable(steps: int, batch_size: int, train_examples: int, test_examples: int) -> Measured | None:
    """What accuracies by statistics may be measured on after so many steps; None where that would be too little.

    All test data, if they may: then the accuracy with running statistics is known from the evaluation. A part of them
    is evaluated with each of the three kinds of statistics, since only accuracies of the same examples are compared.
    """
    passes = steps * max(batch_size, _STEP_OF_AT_LEAST) // _TRAINED_FOR_A_PASS
    precise = min(precise_examples(steps * batch_size), train_examples)
    left = passes - precise
    if left >= 2 * test_examples:
        return Measured(test_examples, precise)
    return Measured(left // 3, precise) if left >= 3 * LEAST_TESTED else None


def least_steps(batch_size: int, train_examples: int, test_examples: int) -> int:
    """After how many steps accuracies are measured for the first time."""
    step = 1
    while affordable(step, batch_size, train_examples, test_examples) is None:
        step *= 2
    low, high = step // 2, step
    while high - low > 1:
        middle = (low + high) // 2
        is_enough = affordable(middle, batch_size, train_examples, test_examples) is not None
        low, high = (low, middle) if is_enough else (middle, high)
    return high
