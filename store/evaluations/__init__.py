"""Evaluations of checkpoints: asked for, found, ended, deleted."""
