"""Data sets of one's own: brought in, waited for, looked at, deleted.

An upload that was cut off goes on: what is asked for in the same words is the same upload, and parts that are there are
not sent again.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from client.calls import OUTAGE_SECONDS, Calls, is_terminal, path_of
from client.errors import ApiError, ClientError, Json

PART_BYTES = 8 << 20
"""Small enough to be sent again after a cut, large enough that a hundred of them are most of a gigabyte."""
COMPLETE_SECONDS = 600.0
"""The server reads all that was sent once more, before it says that it has come."""
_CHUNK_BYTES = 1 << 20

Progress = Callable[[int, int], object]
"""Bytes that are there, and of how many."""


class DatasetCalls(Calls):
    """`/v1/datasets` and one of them."""

    def add_dataset(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        on_progress: Progress = lambda _done, _of: None,
        **options: Any,
    ) -> Json:
        """Upload a file and have it imported; the data set as it is then (`wait_dataset`).

        `options` say how it is to be read (`docs/datasets.md`). The same file with the same options is the same data
        set, and `already_there`. After a cut, the same call goes on with the parts that are missing. Raises `ApiError`.
        """
        source = Path(path)
        if not source.is_file():
            raise ClientError(
                f"{source} is a folder; pack it into a zip" if source.is_dir() else f"there is no file {source}"
            )
        size, sha256 = source.stat().st_size, _sha256(source)
        if not size:
            raise ClientError(f"{source} is empty")
        asked = {"name": name or source.name, "file_name": source.name, "file_size": size, "sha256": sha256, **options}
        begun = self._begin_dataset(asked)
        if begun["state"] != "uploading":
            on_progress(size, size)
            return begun
        self._send_parts(begun, source, size, on_progress)
        complete = path_of(begun["id"], "complete")
        answer: Json = self._json("POST", complete, body={"sha256": sha256}, timeout_seconds=COMPLETE_SECONDS)
        return answer

    def import_dataset(self, name: str, huggingface: Mapping[str, Any], **options: Any) -> Json:
        """Have the worker fetch a data set of the Hugging Face hub; the data set as it is then."""
        return self._begin_dataset({"name": name, "huggingface": dict(huggingface), **options})

    def datasets(self, *, page_size: int = 100, state: str | None = None) -> Iterator[Json]:
        """One's own, newest first, page by page as they are asked for."""
        return self._pages("/v1/datasets", {"limit": page_size, **({"state": state} if state else {})})

    def dataset(self, dataset_id: str) -> Json:
        """One of them, with its report."""
        answer: Json = self._json("GET", path_of(dataset_id))
        return answer

    def wait_dataset(
        self,
        dataset_id: str,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Json], object] | None = None,
    ) -> Json:
        """The data set once its import has ended, however it ended. Raises `WaitTimeout`."""
        return self._ended(path_of(dataset_id), dataset_id, timeout_seconds, lambda found: found, on_progress)

    def dataset_files(self, dataset_id: str) -> list[Json]:
        """The files that its import has made; `download_file` fetches one."""
        files: list[Json] = self._json("GET", path_of(dataset_id, "files"))["data"]
        return files

    def cancel_dataset(self, dataset_id: str) -> Json:
        """Ask for the end of an import; repeating changes nothing."""
        answer: Json = self._json("POST", path_of(dataset_id, "cancel"))
        return answer

    def retry_dataset(self, dataset_id: str) -> Json:
        """Queue the import of a data set that failed or was cancelled again, where what was uploaded is kept."""

        def was_queued(refusal: ApiError) -> bool:
            return refusal.status == 409 and "state" in refusal.problem and not is_terminal(refusal.problem)

        self._transport.do("POST", path_of(dataset_id, "retry"), was_queued)
        return self.dataset(dataset_id)

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a data set that nothing reads, or an upload, with all its files."""
        self._transport.do("DELETE", path_of(dataset_id), lambda refusal: refusal.status == 404)

    def _begin_dataset(self, asked: Mapping[str, Any]) -> Json:
        # Not a new key a call: whoever asks again after a cut means the upload that is there.
        key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
        answer: Json = self._json("POST", "/v1/datasets", body=dict(asked), headers={"Idempotency-Key": key})
        return answer

    def _send_parts(self, begun: Json, source: Path, size: int, on_progress: Progress) -> None:
        there = {part["number"]: (part["size"], part["sha256"]) for part in begun["upload"]["data"]}
        most = min(PART_BYTES, int(begun["upload"]["part_max_bytes"]))
        with source.open("rb") as file:
            for number, start in enumerate(range(0, size, most), start=1):
                on_progress(start, size)
                data = file.read(most)
                digest = hashlib.sha256(data)
                if there.get(number) != (len(data), digest.hexdigest()):
                    self._send(begun["id"], number, data, digest.digest())
        on_progress(size, size)

    def _send(self, dataset_id: str, number: int, data: bytes, digest: bytes) -> None:
        headers = {
            "Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
            "Content-Type": "application/octet-stream",
        }
        path = path_of(dataset_id, "parts", str(number))
        self._transport.request("PUT", path, content=data, headers=headers, retry_seconds=OUTAGE_SECONDS)


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            found.update(data)
    return found.hexdigest()
