"""Documents as pictures and pages, by vl-convert: no browser, no system fonts, no network.

Invariant: imported by nothing but a process made for it. It holds Python's lock while it draws, and takes 100 MB. What
a picture would cost is known before its pixels are begun.
"""

import functools
import html
import json
from typing import Any, Literal

import vl_convert

from bncore.figures import affording
from bncore.figures.results import FigureRefused

Format = Literal["json", "svg", "png", "html"]
# The renderer's own name for the version that documents are written in.
_VERSION = "5.21"
_NO_ADDRESS: list[str] = []
# Expressions are interpreted, so that no policy need allow that text becomes program.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>body {{ margin: 12px; background: {background}; }}</style>
<script>{program}</script>
</head>
<body>
<div id="figure"></div>
<script>
vegaEmbed("#figure", {document}, {{
  ast: true, renderer: "svg", actions: {{ export: true, source: false, compiled: false, editor: false }}
}}).catch(console.error);
</script>
</body>
</html>
"""


def drawn(
    document: dict[str, Any], form: Format, scale: float = 2.0, affordable_seconds: float = affording.SECONDS
) -> bytes:
    """The document itself, a picture, or a page that holds all it needs. `scale` is of a PNG: pixels a pixel.

    Raises `FigureRefused` for a PNG that is estimated at more CPU seconds than are affordable.
    """
    match form:
        case "json":
            return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
        case "svg":
            return _svg(document).encode()
        case "png":
            return _png(_svg(document), scale, affordable_seconds)
        case "html":
            return _page(document).encode()


def _svg(document: dict[str, Any]) -> str:
    made: str = vl_convert.vegalite_to_svg(document, vl_version=_VERSION, allowed_base_urls=_NO_ADDRESS)
    return made


def _png(svg: str, scale: float, affordable_seconds: float) -> bytes:
    cost = affording.cost_of(svg)
    if cost.at(scale) > affordable_seconds:
        most = cost.greatest_scale(affordable_seconds)
        would_do = "name fewer series or experiments, or take svg" if most is None else f"use {most:g} or less, or svg"
        detail = f"This picture has too many lines to be drawn as pixels at a scale of {scale:g}: {would_do}"
        raise FigureRefused("too_costly", detail, "scale")
    return bytes(vl_convert.svg_to_png(svg, scale=scale))


def _page(document: dict[str, Any]) -> str:
    """Not the library's own page, in which a title may end the script that it stands in."""
    # In a string of JSON the only thing that could end it; written so, it is the same character.
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    background = document.get("config", {}).get("background", "#ffffff")
    title = html.escape(str(document.get("description", "")))
    return _PAGE.format(title=title, background=background, program=_program(), document=text)


@functools.cache
def _program() -> str:
    """The JavaScript that draws, 0.9 MB; it takes seconds to put together."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VERSION)
    return bundle.replace("</script", "<\\/script")
