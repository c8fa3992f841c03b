"""How a route behind the key is added: to the application itself.

An included router would be asked for a match on the way to every route behind it, and each answer costs.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args

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
        # The key comes before all else that would be asked or told, and is asked for once where the route does so.
        keyed = not dependencies and _asks_for_key_first(route)
        self._app.add_api_route(
            self._prefix + path,
            route,
            tags=[self._tag],
            dependencies=dependencies if keyed else [Depends(authenticate), *dependencies],
            responses={**declared(401, 403, 422, 429, 503), **(responses or {})},
            **described,
        )


def _asks_for_key_first(route: Callable[..., Any]) -> bool:
    annotations = (parameter.annotation for parameter in inspect.signature(route).parameters.values())
    depends = (part for annotation in annotations for part in get_args(annotation) if isinstance(part, params.Depends))
    first = next(depends, None)
    return first is not None and first.dependency is authenticate
