"""The page that shows the API's description to people, and what it may load.

Its script comes from a public host, pinned by nothing but its address; the page's policy admits that host, the one
inline script that starts it, and nothing else.
"""

import base64
import hashlib
import re

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

PATH = "/docs"
_CDN = "https://cdn.jsdelivr.net"
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def mount(app: FastAPI) -> None:
    """Serve the page, without a key: it says only what the source says."""
    assert app.openapi_url is not None
    page = bytes(get_swagger_ui_html(openapi_url=app.openapi_url, title=app.title, swagger_favicon_url="data:,").body)
    headers = {"Content-Security-Policy": _policy(page), "Cache-Control": "no-cache"}

    async def get_docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    app.add_api_route(PATH, get_docs, include_in_schema=False)


def _policy(page: bytes) -> str:
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page)]
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {_CDN} {scripts}; style-src {_CDN} 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
