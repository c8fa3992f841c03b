"""Where a command writes: a path as it was typed, which `Path` would forget half of."""

from pathlib import Path
from typing import Any

import typer

from client.download import target_of
from client.errors import ClientError


def typed_target(text: str | Path) -> Path:
    """What `-o` names. Raises `typer.BadParameter` for a folder that does not exist."""
    try:
        return target_of(text)
    except ClientError as error:
        raise typer.BadParameter(str(error)) from None


def target_option(*names: str, **how: Any) -> Any:
    """An option that says where to write."""
    return typer.Option(*names, parser=typed_target, **how)
