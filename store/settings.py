"""What `python -m store` reads from its environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class StoreSettings(BaseSettings):
    """`BNLAB_DATABASE_URL`, `BNLAB_BOOTSTRAP_API_KEY`."""

    model_config = SettingsConfigDict(env_prefix="BNLAB_", extra="forbid")

    database_url: SecretStr
    bootstrap_api_key: SecretStr | None = None
    migrate_wait_seconds: float = 60.0
