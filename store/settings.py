"""What `python -m store` reads from its environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class StoreSettings(BaseSettings):
    """`BNLAB_DATABASE_URL`, `BNLAB_BOOTSTRAP_API_KEY`."""

    model_config = SettingsConfigDict(env_prefix="BNLAB_", extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr
    bootstrap_api_key: SecretStr | None = None
    migrate_wait_seconds: float = 60.0
