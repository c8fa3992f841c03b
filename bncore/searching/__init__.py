"""Trials proposed from results: a pure function, in a process made for it, in which alone Optuna is imported."""

MEASURED, LOST, FAILED, OPEN = "measured", "lost", "failed", "open"
"""A trial has a mean over all seeds; or a seed diverged or did not get there; or nothing can be said; or not yet."""
