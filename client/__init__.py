"""The user's side of BNLab: a Python client, the `bnlab` command, and the one-machine stack.

It knows the spec and HTTP, nothing of the services. Names are loaded on first use, so that the small processes under
`client.local` start without an HTTP stack.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.errors import ApiError, ClientError, DownloadMismatch, InvalidSetting, Unreachable, WaitTimeout
    from client.figures import Figure
    from client.http import Client
    from client.series import Series

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "DownloadMismatch",
    "Figure",
    "InvalidSetting",
    "Series",
    "Unreachable",
    "WaitTimeout",
]

_HOMES = {"Client": "client.http", "Figure": "client.figures", "Series": "client.series"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "client.errors")), name)
