"""Files by their ids: what they are, and their bytes."""

from pathlib import Path

from client.calls import Calls, checked_id
from client.download import fetch, safe_name, target_of
from client.errors import Json


class FileCalls(Calls):
    """What lies under /v1/files."""

    def file(self, file_id: str) -> Json:
        """Name, kind, size and sha256 of a file."""
        found: Json = self._json("GET", f"/v1/files/{checked_id(file_id)}")
        return found

    def download_file(self, file_id: str, path: str | Path = ".") -> Path:
        """Fetch a file, checked against size and sha256, and return where it lies.

        `path` is a file, or a directory in which the file gets its name, of letters, digits, `-`, `_` and `.` only.
        """
        described = self.file(file_id)
        name = safe_name(str(described["name"])) or file_id
        return fetch(self._transport, f"/v1/files/{checked_id(file_id)}/content", described, name, target_of(path))
