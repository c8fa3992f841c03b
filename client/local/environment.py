"""What the children of the local stack find in their environment: the user's own, minus what would configure them."""

from collections.abc import Mapping

_OURS = ("BNLAB_", "CELERY_", "UVICORN_", "PYTHON")
_OTHERS = frozenset({"WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "FORKED_BY_MULTIPROCESSING"})


def child_environment(base: Mapping[str, str], settings: Mapping[str, object]) -> dict[str, str]:
    """`base` without variables that BNLab, Celery, uvicorn or Python would obey, plus `settings` as BNLAB_ variables.

    PATH, HOME, locale, CUDA_VISIBLE_DEVICES and the like stay: they describe the machine.
    """
    kept = {key: value for key, value in base.items() if not key.startswith(_OURS) and key not in _OTHERS}
    # Logs are files here: a block of output that waits in a buffer is a log line nobody sees.
    return kept | {"PYTHONUNBUFFERED": "1"} | {f"BNLAB_{key.upper()}": str(value) for key, value in settings.items()}
