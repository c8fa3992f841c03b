"""The verbs of the `bnlab` command, one a module."""
