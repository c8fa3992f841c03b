"""Documents as pictures and pages, by vl-convert: no browser, no system fonts, no network.

Invariant: imported by nothing but a process made for it. It holds Python's lock while it draws, and takes 100 MB.
"""

import functools
import html
import json
from typing import Any, Literal

import vl_convert

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


def drawn(document: dict[str, Any], form: Format, scale: float = 2.0) -> bytes:
    """The document itself, a picture, or a page that holds all it needs. `scale` is of a PNG: pixels a pixel."""
    match form:
        case "json":
            return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
        case "svg":
            made: str = vl_convert.vegalite_to_svg(document, vl_version=_VERSION, allowed_base_urls=_NO_ADDRESS)
            return made.encode()
        case "png":
            return bytes(
                vl_convert.vegalite_to_png(document, vl_version=_VERSION, scale=scale, allowed_base_urls=_NO_ADDRESS)
            )
        case "html":
            return _page(document).encode()


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
