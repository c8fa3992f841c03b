"""Where the local stack keeps its things: everything lies under one data directory."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import platformdirs


def default_data_dir() -> Path:
    """BNLAB_DATA_DIR, else the place that the platform has for a user's data."""
    named = os.environ.get("BNLAB_DATA_DIR")
    return Path(named) if named else platformdirs.user_data_path("bnlab", appauthor=False)


@dataclass(frozen=True)
class Places:
    """The paths in a data directory."""

    data_dir: Path

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.data_dir / 'bnlab.sqlite3'}"

    @property
    def runs_dir(self) -> Path:
        return self.data_dir / "runs"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def api_key_file(self) -> Path:
        return self.data_dir / "api_key"

    @property
    def lock_file(self) -> Path:
        return self.data_dir / "lock"

    def create(self) -> None:
        """Make the directories, closed to other users: the database holds key hashes, the logs file names."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.runs_dir.mkdir(exist_ok=True, mode=0o700)
        self.logs_dir.mkdir(exist_ok=True, mode=0o700)

    def api_key(self) -> str:
        """The stack's first key; made on the first call, mode 0600, and kept."""
        try:
            present = self.api_key_file.read_text().strip()
        except FileNotFoundError:
            present = ""
        if present:
            return present
        made = f"bnl_{secrets.token_urlsafe(32)}"
        # Written beside and renamed, so that a kill in between leaves no empty key.
        draft = self.api_key_file.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{made}\n")
        draft.replace(self.api_key_file)
        return made
