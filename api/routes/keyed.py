"""How a route behind the key is added: to the application itself.

An included router would be asked for a match on the way to every route behind it, and each answer costs.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Depends, FastAPI, params

from api.deps import authenticate
from api.problems import declared


class KeyedRoutes:
    """Routes of one noun, below one path."""

    def __init__(self, app: FastAPI, prefix: str, tag: str) -> None:
        self._app = app
        self._prefix = prefix
        self._tag = tag

    def add(
        self,
        path: str,
        route: Callable[..., Any],
        *,
        responses: dict[int | str, dict[str, Any]] | None = None,
        dependencies: Sequence[params.Depends] = (),
        **described: Any,
    ) -> None:
        """Add one; the rest is as for `FastAPI.add_api_route`."""
        self._app.add_api_route(
            self._prefix + path,
            route,
            tags=[self._tag],
            dependencies=[Depends(authenticate), *dependencies],
            responses={**declared(401, 403, 429, 503), **(responses or {})},
            **described,
        )
