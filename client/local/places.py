"""Where the local stack keeps its things: everything lies under one data directory, closed to other users."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import platformdirs

from client.local.owner_only import DirectoryUnusable, make_owner_only, make_private, refuse_foreign


def data_dir_of(named: Path | None = None) -> Path:
    """The absolute path of a data directory: the one named, else BNLAB_DATA_DIR, else the platform's for a user.

    Raises `DirectoryUnusable`.
    """
    in_environment = os.environ.get("BNLAB_DATA_DIR")
    path = named or (Path(in_environment) if in_environment else platformdirs.user_data_path("bnlab", appauthor=False))
    try:
        return path.expanduser().resolve()
    except (RuntimeError, OSError) as error:
        raise DirectoryUnusable(f"{path} cannot be the data directory: {error}") from None


@dataclass(frozen=True)
class Places:
    """The paths in a data directory."""

    data_dir: Path

    @property
    def database_file(self) -> Path:
        return self.data_dir / "bnlab.sqlite3"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{quote(str(self.database_file))}"

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

    def create(self) -> bool:
        """Make the directories, or close those that are there with their files. True if any was open to others.

        Raises `DirectoryUnusable`.
        """
        refuse_foreign(self.data_dir, (self.database_file, self.api_key_file, self.lock_file))
        directories = (self.data_dir, self.runs_dir, self.logs_dir)
        was_open = [make_private(directory) for directory in directories]
        # The database, its log and its index; keys and lock. What lies under the runs is closed by their directory.
        files = [self.lock_file, *self.data_dir.glob("bnlab.sqlite3*"), *self.data_dir.glob("api_key*")]
        files += self.logs_dir.glob("*.log*")
        return any(was_open + [make_owner_only(path) for path in files if path.is_file()])

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
