"""Predictions with a checkpoint: asked for, answered, forgotten.

Invariant: a prediction is claimed before all other jobs of its queue, and nothing of it is left once whoever asked has
the answer, or has given up.
"""

from store.predictions.asking import ENDED, PRIORITY, ask, forget, forget_ended, get

__all__ = ["ENDED", "PRIORITY", "ask", "forget", "forget_ended", "get"]
