"""Figures of experiments, sweeps and studies: asked for by name, shown in a notebook, saved to a file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.calls import Calls, checked_id, path_of, several
from client.download import target_of, whole_file
from client.errors import ClientError, Json

FORMATS = ("png", "svg", "html", "json")
_TIMEOUT_SECONDS = 120.0
"""A figure waits for its turn behind those of others."""
_VEGA_LITE = "application/vnd.vegalite.v5+json"


@dataclass(frozen=True)
class Figure:
    """A figure as the server has it; each format is drawn when it is first asked for. A notebook shows it inline."""

    name: str
    experiments: tuple[str, ...]
    look: Mapping[str, Any]
    _calls: "FigureCalls"
    _drawn: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def document(self) -> Json:
        """The Vega-Lite document, with its data."""
        found: Json = json.loads(self.content("json"))
        return found

    def content(self, form: str) -> bytes:
        """The figure as png, svg, html or json. Raises `ApiError`."""
        if form not in FORMATS:
            raise ClientError(f"A figure is one of {', '.join(FORMATS)}, not '{form}'")
        if form not in self._drawn:
            self._drawn[form] = self._calls.draw(self.name, self.experiments, self.look, form)
        return self._drawn[form]

    def save(self, path: str | Path) -> Path:
        """Write it to a file, whose suffix says the format, and return where that lies."""
        target = target_of(path)
        content = self.content(target.suffix.removeprefix(".").lower() or "png")
        with whole_file(target) as file:
            file.write(content)
        return target

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002  (IPython's)
        return {_VEGA_LITE: self.document, "image/png": self.content("png"), "text/plain": repr(self)}


class FigureCalls(Calls):
    """What there is to be drawn, and the drawing of it."""

    def figures(self, experiment_id: str) -> list[Json]:
        """The figures that the results of an experiment, a sweep or a study allow so far."""
        found: list[Json] = self._json("GET", path_of(experiment_id, "figures"))["data"]
        return found

    def figure(
        self,
        experiments: str | Iterable[str] | None = None,
        name: str = "curves",
        *,
        tags: str | Iterable[str] = (),
        tag: str | Iterable[str] = (),
        keys: str | Iterable[str] = (),
        **look: Any,
    ) -> Figure:
        """A figure of one experiment, or of several in one: by their ids, or by `tags` (`key:value`), as `compare`.

        Runs that differ in nothing but the seed are one line, their mean, with its 95 % interval. `look` may have
        theme ("light", "dark"), width, scale, log_y, and of several traces. With the id of a sweep it is a figure of
        that: name may be sensitivity, heat_map or parallel_coordinates, and `look` may have measure, x and y; with that
        of a study effects, measured, reaching, tuning or learning. `tag` is an older word for `tags`. Raises
        `ApiError`.
        """
        said = {"keys": several(keys)} if keys else {}
        tagged = {"tag": [*several(tags), *several(tag)]} if tags or tag else {}
        figure = Figure(name, tuple(several(experiments)), {**look, **said, **tagged}, self)
        # What cannot be drawn is said now, not when a notebook comes to show it.
        figure.content("json")
        return figure

    def draw(self, name: str, experiments: tuple[str, ...], look: Mapping[str, Any], form: str) -> bytes:
        """One format of a figure."""
        # What is for pictures alone is no part of the others.
        fitting = {key: value for key, value in look.items() if key != "scale" or form == "png"}
        if len(experiments) == 1 and "tag" not in look and not look.get("traces"):
            path = path_of(experiments[0], "figures") + f"/{checked_id(name)}.{form}"
            fitting.pop("traces", None)
            params = {key: str(value).lower() if isinstance(value, bool) else value for key, value in fitting.items()}
            return self._transport.request("GET", path, params=params, timeout_seconds=_TIMEOUT_SECONDS).content
        named = {"experiments": list(experiments)} if experiments else {}
        body = {"name": name, "format": form, **named, **fitting}
        return self._transport.request("POST", "/v1/figures", body=body, timeout_seconds=_TIMEOUT_SECONDS).content
