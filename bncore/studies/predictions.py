"""Whether two arms err on different examples: McNemar's test on pooled predictions."""

import numpy as np
from scipy import stats

from bncore.studies.verdict import Disagreements


def mcnemar(treatment_right: np.ndarray, baseline_right: np.ndarray) -> Disagreements:
    """The exact test (McNemar 1947): had the arms the same accuracy, who is right alone would be a fair coin.

    It stands beside a verdict and decides none: predictions of several seeds on the same examples are not
    independent, and its p is too small for what other seeds would do.

    Args:
        treatment_right, baseline_right: bool, shape (seed, example), the same examples in the same order.
    """
    if treatment_right.shape != baseline_right.shape:
        raise ValueError(
            f"predictions of shapes {treatment_right.shape} and {baseline_right.shape} are not of the same examples"
        )
    ours = int(np.sum(treatment_right & ~baseline_right))
    theirs = int(np.sum(baseline_right & ~treatment_right))
    p = stats.binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    return Disagreements(ours, theirs, float(p))
