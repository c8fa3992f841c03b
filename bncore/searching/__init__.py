"""Trials proposed from results: a pure function, in a process made for it, in which alone Optuna is imported."""
