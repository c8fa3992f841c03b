"""Studies as they are asked for: torch-free, and without SciPy.

Invariant: what cannot be answered is refused here, before anything of it is run, with what is wrong and what to do.
"""

from bncore.spec.study.comparison import BASELINE, EstimandSpec, FreeComparison, ReachedSpec, load_comparison
from bncore.spec.study.recorded import Recorded, recorded_of

__all__ = [
    "BASELINE",
    "EstimandSpec",
    "FreeComparison",
    "ReachedSpec",
    "Recorded",
    "load_comparison",
    "recorded_of",
]
