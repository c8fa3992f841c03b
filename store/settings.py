"""What a process reads from its environment, and what it says when that is wrong.

Invariant: whoever starts a process with a wrong setting is told its name and what would be right, in a line each, and
no value is shown: it may be a password.
"""

import sys
from typing import Annotated, TypeVar

from pydantic import AfterValidator, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from store.database import address_of

PREFIX = "BNLAB_"
WRONG_SETTINGS = 2
"""The exit code."""

Settings = TypeVar("Settings", bound=BaseSettings)


def _known(url: SecretStr) -> SecretStr:
    address_of(url.get_secret_value())
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_known)]


class StoreSettings(BaseSettings):
    """`BNLAB_DATABASE_URL`, `BNLAB_BOOTSTRAP_API_KEY`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", hide_input_in_errors=True)

    database_url: DatabaseUrl
    bootstrap_api_key: SecretStr | None = None
    migrate_wait_seconds: float = 60.0


def from_environment(settings: type[Settings]) -> Settings:
    """The settings of this process; where they are wrong it ends."""
    try:
        return settings()
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            name = PREFIX + "_".join(str(part) for part in fault["loc"]).upper() if fault["loc"] else "settings"
            print(f"{name}: {fault['msg'].removeprefix('Value error, ')}", file=sys.stderr)
        sys.exit(WRONG_SETTINGS)
