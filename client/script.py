"""What the script `bnlab` runs: every installation has it, and one without the extra `client` hears which is missing.

Invariant: nothing is imported before `main` but the standard library.
"""

import sys

REFUSED = 3
"""As `client.commands.outcome.Exit`, which cannot be imported where this counts."""


def main() -> None:
    try:
        from client.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("client", "bncore"):
            raise
        print(
            f"bnlab needs the extra client: pip install 'bnlab[client]' (there is no module {error.name})",
            file=sys.stderr,
        )
        sys.exit(REFUSED)
    app()
