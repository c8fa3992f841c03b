"""A part of an upload on its way from the client into the database.

Invariant: of a body no more than a chunk and what the server has read ahead is in memory; no thread and no connection
is held while the client sends. A part that does not arrive whole leaves nothing.
"""

import contextlib
import functools
import hashlib
import re
from base64 import b64decode

from starlette.requests import Request

from api.deps import Admitted
from api.refusals import BodyTooLarge, DigestMismatch, DigestRequired, LengthRequired
from store import files
from store.datasets import uploads
from store.datasets.uploads import Part

_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):\s*(?=,|$)")


def announced(request: Request, number: int, most_bytes: int) -> Part:
    """The part as its headers have it. Raises `LengthRequired`, `DigestRequired`, `BodyTooLarge`."""
    length = request.headers.get("content-length", "")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if not length.isdecimal() or not int(length) or encoding != "identity":
        raise LengthRequired
    if int(length) > most_bytes:
        raise BodyTooLarge(most_bytes)
    found = _DIGEST.search(",".join(request.headers.getlist("content-digest")))
    if found is None:
        raise DigestRequired
    return Part(number, int(length), b64decode(found[1]).hex())


class Receiving:
    """One part; use `store` once."""

    def __init__(self, asked: Admitted, upload_id: str, part: Part) -> None:
        self._asked = asked
        self._service = asked.service
        self._upload_id = upload_id
        self._part = part
        self._owner = ""
        self._file_id = ""
        self._is_there = False
        self._found = hashlib.sha256()
        self._received = 0

    async def store(self) -> None:
        """Read the body, chunk by chunk, and count the part as there.

        Raises `DigestMismatch`, what `uploads.begin_part` and `uploads.finish_part` raise, `ClientDisconnect`.
        """
        lane = self._service.uploads
        await lane.run(self._begin)
        try:
            await self._receive()
            await lane.run(self._finish)
        except BaseException:
            # Of what was cut off the purge would find the rest, too; until then it would count.
            with contextlib.suppress(Exception):
                await lane.run(self._discard)
            raise

    async def _receive(self) -> None:
        rest = bytearray()
        async for piece in self._asked.request.stream():
            rest += piece
            while len(rest) >= files.CHUNK_BYTES:
                chunk = bytes(rest[: files.CHUNK_BYTES])
                del rest[: files.CHUNK_BYTES]
                await self._service.uploads.run(functools.partial(self._keep, chunk))
        if rest:
            await self._service.uploads.run(functools.partial(self._keep, bytes(rest)))
        if self._received != self._part.size or self._found.hexdigest() != self._part.sha256:
            raise DigestMismatch(self._found.hexdigest())

    def _begin(self) -> None:
        settings = self._service.settings
        limits = {"most_bytes": settings.max_upload_bytes, "owner_bytes": settings.bytes_per_owner}
        with self._service.database.write() as session:
            self._owner, begun = uploads.begin_part(
                session, self._upload_id, self._part, owner=self._asked.sees, **limits
            )
        self._file_id, self._is_there = begun.file_id, begun.whole

    def _keep(self, chunk: bytes) -> None:
        seq = self._received // files.CHUNK_BYTES
        self._found.update(chunk)
        self._received += len(chunk)
        if self._is_there or self._received > self._part.size:
            return
        with self._service.database.write() as session:
            files.write_chunk_of(session, self._owner, self._file_id, seq, chunk)

    def _finish(self) -> None:
        with self._service.database.write() as session:
            uploads.finish_part(
                session,
                self._upload_id,
                self._part,
                owner=self._owner,
                file_id=self._file_id,
                digest=self._found.hexdigest(),
                most_bytes=self._service.settings.max_upload_bytes,
            )

    def _discard(self) -> None:
        with self._service.database.write() as session:
            uploads.discard_part(session, self._owner, self._file_id)
