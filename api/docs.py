"""The page that shows the API's description to people, and what it may load.

Invariant: it works without a network and runs nothing that is not installed here: Swagger UI's two files come from the
package `fastapi-offline`, and the page's policy admits this server, the one inline script that starts it, and nothing
else.
"""

import base64
import functools
import hashlib
import re
from importlib import resources

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

PATH = "/docs"
_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_DAY = "public, max-age=86400"
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def mount(app: FastAPI) -> None:
    """Serve the page and its files, without a key: they say only what the source says."""
    assert app.openapi_url is not None
    script, style = (f"{PATH}/{name}" for name in _FILES)
    shown = get_swagger_ui_html(
        openapi_url=app.openapi_url,
        title=app.title,
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url="data:,",
    )
    page = bytes(shown.body)
    headers = {"Content-Security-Policy": _policy(page), "Cache-Control": "no-cache"}

    async def get_docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    app.add_api_route(PATH, get_docs, include_in_schema=False)
    for name, kind in _FILES.items():
        app.add_api_route(f"{PATH}/{name}", functools.partial(_file, name, kind), include_in_schema=False, name=name)


async def _file(name: str, kind: str) -> Response:
    return Response(_content(name), media_type=kind, headers={"Cache-Control": _DAY})


@functools.cache
def _content(name: str) -> bytes:
    """Read when somebody first looks: 1.5 MB that most services never need."""
    return (resources.files("fastapi_offline") / "static" / name).read_bytes()


def _policy(page: bytes) -> str:
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page)]
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
