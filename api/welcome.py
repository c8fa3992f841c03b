"""What stands at the root: for whoever opens the address in a browser and wonders what this is.

Invariant: it says only what the source says, loads nothing and runs nothing.
"""

import base64
import hashlib
from html import escape

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

PATH = "/"
_LINKS = (
    ("/docs", "the API, to read and to try out"),
    ("/openapi.json", "its description, for programs (OpenAPI 3.1)"),
    ("/healthz", "whether this process lives"),
    ("/readyz", "whether database, broker, relay and workers are there"),
)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#1b1b1b;"
    "background:#fff}code,pre{font:14px/1.5 ui-monospace,monospace}pre{padding:.75rem;overflow-x:auto;"
    "background:#f2f2f2}dt{float:left;clear:left;width:9rem}dd{margin:0 0 .25rem 9rem}a{color:#0b5cad}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}pre{background:#262626}a{color:#7db8ff}}"
)
_SENTENCE = (
    "Training as a service for normalization experiments: POST a declarative spec, a worker trains it, and metrics, "
    "results and checkpoints are read back over HTTP. Everything under /v1 needs an API key."
)
_EXAMPLE = """export BNLAB_URL=... BNLAB_API_KEY=...    # this address, and a key
bnlab submit --wait examples/digits-bn.yaml
curl -s -H "Authorization: Bearer $BNLAB_API_KEY" \\
  $BNLAB_URL/v1/experiments --json '{}'"""


def mount(app: FastAPI) -> None:
    """Serve the page, without a key."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache", "Vary": "Accept"}

    page = _page()

    async def get_welcome(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(page, headers=headers)
        return PlainTextResponse(_text(), headers={"Cache-Control": "no-cache", "Vary": "Accept"})

    app.add_api_route(PATH, get_welcome, include_in_schema=False)


def _page() -> str:
    links = "".join(f'<dt><a href="{path}">{path}</a></dt><dd>{said}</dd>' for path, said in _LINKS)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>BNLab</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><h1>BNLab</h1>'
        f"<p>{escape(_SENTENCE)}</p><dl>{links}</dl><p>From a shell:</p>"
        f"<pre>{escape(_EXAMPLE)}</pre></body></html>"
    )


def _text() -> str:
    lines = [f"{path:<14} {said}" for path, said in _LINKS]
    return "\n".join(["BNLab", _SENTENCE, "", *lines, ""])
