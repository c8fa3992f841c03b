"""How the children of the local stack are started: which Python, and what they find in their environment.

Invariant: no child, and none of its own, imports code from the current folder, which is anybody's.
"""

import sys
from collections.abc import Mapping

_OURS = ("BNLAB_", "CELERY_", "UVICORN_", "PYTHON")
_OTHERS = frozenset({"WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "FORKED_BY_MULTIPROCESSING"})


def python(*arguments: str) -> list[str]:
    """A command of this Python that leaves the current folder alone."""
    return [sys.executable, "-P", *arguments]


def child_environment(base: Mapping[str, str], settings: Mapping[str, object]) -> dict[str, str]:
    """`base` without variables that BNLab, Celery, uvicorn or Python would obey, plus `settings` as BNLAB_ variables.

    PATH, HOME, locale, CUDA_VISIBLE_DEVICES and the like stay: they describe the machine.
    """
    kept = {key: value for key, value in base.items() if not key.startswith(_OURS) and key not in _OTHERS}
    # -P for the processes that a child starts. And logs are files here: a block of output that waits in a buffer is a
    # log line nobody sees.
    ours = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    return kept | ours | {f"BNLAB_{key.upper()}": str(value) for key, value in settings.items()}
