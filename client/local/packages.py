"""Our packages lie together, seen as the children see them: a folder called `worker` elsewhere is never ours.

Invariant: nothing is imported to find that out.
"""

import json
import os
import subprocess
from pathlib import Path

import client
from client.local.environment import child_environment, python

PACKAGES = ("api", "worker", "store", "bncore", "client", "migrations")
LOOK_SECONDS = 60.0
_LOOK = """
import importlib.util, json, sys
def origin(name):
    spec = importlib.util.find_spec(name)
    return spec and (spec.origin or list(spec.submodule_search_locations)[0])
print(json.dumps({name: origin(name) for name in sys.argv[1:]}))
"""


class PackagesApart(Exception):
    """A child would import something that is not ours, or nothing; the text says what lies where."""


def require_together() -> None:
    """Raise `PackagesApart` unless a child finds every package beside this one."""
    home = Path(client.__file__).resolve().parent.parent
    found = _found()
    astray = [
        f"{name} in {origin or 'no place at all'}"
        for name, origin in found.items()
        if origin is None or Path(origin).resolve() != home / name / "__init__.py"
    ]
    if astray:
        raise PackagesApart(f"the packages do not lie together: this is {home}, but Python finds {', '.join(astray)}")


def _found() -> dict[str, str | None]:
    looked = subprocess.run(
        python("-c", _LOOK, *PACKAGES),
        env=child_environment(os.environ, {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LOOK_SECONDS,
        check=False,
    )
    if looked.returncode != 0:
        last_words = looked.stderr.decode(errors="replace").strip().splitlines() or [f"code {looked.returncode}"]
        raise PackagesApart(f"Python cannot look for the packages: {last_words[-1]}")
    found: dict[str, str | None] = json.loads(looked.stdout)
    return found
