"""The three specs of `bnlab demo`, which are also complete examples: they differ in their normalization alone."""

import json
from importlib.resources import files
from typing import Any

ARMS = ("none", "batch_norm", "batch_renorm")


def read_spec(arm: str) -> dict[str, Any]:
    """The spec of one of `ARMS`."""
    spec: dict[str, Any] = json.loads((files(__name__) / f"{arm}.json").read_text(encoding="utf-8"))
    return spec
