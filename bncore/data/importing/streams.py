"""What is read of a stranger's file: a fault in it is a refusal that says where, and none costs more than it may.

Invariant: whatever the bytes are, what comes out is right or `InvalidData`; only the host's faults are other errors.
"""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds

_OF_THE_FILE = (None, errno.EINVAL, errno.EOVERFLOW)
"""What damaged bytes make of a read or a seek; any other is the host's."""
_Unpacked = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile
_OPENERS: dict[bytes, Callable[[IO[bytes]], _Unpacked]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw, mode="rb"),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


class Interrupted(Exception):
    """Whoever asked for the import wants it to end."""


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever a parser makes of a stranger's bytes in here is `InvalidData` about `what`.

    Parsers of others raise nearly anything for damaged bytes. Errors of the host (a full disk) stay what they are.
    """
    try:
        yield
    except (InvalidData, Interrupted):
        raise
    except MemoryError as error:
        raise InvalidData(f"{what} asks for more memory than there is") from error
    except OSError as error:
        if error.errno not in _OF_THE_FILE:
            raise
        raise InvalidData(_damaged(what, error)) from error
    except Exception as error:
        raise InvalidData(_damaged(what, error)) from error


def is_packed(head: bytes) -> bool:
    """Whether these first bytes are those of gzip, bzip2 or xz."""
    return any(head.startswith(magic) for magic in _OPENERS)


def unpacked(raw: IO[bytes], head: bytes, what: str, packed_bytes: int) -> "Capped":
    """What a stream of gzip, bzip2 or xz holds, which must not be much more than it should."""
    opener = next(opener for magic, opener in _OPENERS.items() if head.startswith(magic))
    with reading(what):
        return Capped(opener(raw), what, packed_bytes, below=raw)


def plain(path: Path) -> "Capped":
    """A file as it lies there."""
    return Capped(path.open("rb"), path.name, path.stat().st_size)


class Capped(io.RawIOBase):
    """A stream that can only be read onward, up to so many bytes, and in pieces that fit in memory."""

    def __init__(
        self, raw: IO[bytes] | _Unpacked, what: str, packed_bytes: int, below: IO[bytes] | None = None
    ) -> None:
        self._raw = raw
        self._below = below
        self._what = what
        self._packed = max(packed_bytes, 1)
        self._at = 0
        self.last = b""
        """What the last call of `read` returned."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def read(self, size: int = -1) -> bytes:
        """As of any stream; raises `InvalidData` for a damaged one, and for one that unpacks to too much."""
        if size > bounds.IMAGE_BYTES:
            raise InvalidData(f"{self._what} has a piece of {size:,} bytes in its own index: it is damaged, or hostile")
        with reading(self._what):
            piece = self._raw.read(bounds.IMAGE_BYTES + 1 if size < 0 else size)
        self._at += len(piece)
        self.last = piece
        check_ratio(self._what, self._at, self._packed)
        return piece

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Onward only, by reading."""
        distance = offset - self._at if whence == io.SEEK_SET else offset
        if whence == io.SEEK_END or distance < 0:
            raise io.UnsupportedOperation("this stream is read onward")
        while distance > 0:
            piece = self.read(min(distance, bounds.PIECE_BYTES))
            if not piece:
                break
            distance -= len(piece)
        return self._at

    def close(self) -> None:
        """With what is below it, which an unpacking stream leaves open."""
        self._raw.close()
        if self._below is not None:
            self._below.close()
        super().close()


def check_ratio(what: str, unpacked_bytes: int, packed_bytes: int) -> None:
    """Raise `InvalidData` for what unpacks to more than is taken, or to far more than it is."""
    if unpacked_bytes > bounds.FILE_BYTES:
        raise InvalidData(f"{what} unpacks to more than {bounds.FILE_BYTES:,} bytes, the most that is taken")
    if unpacked_bytes > bounds.RATIO_FROM_BYTES and unpacked_bytes > bounds.RATIO * max(packed_bytes, 1):
        raise InvalidData(
            f"{what} unpacks to more than {bounds.RATIO} times its size, as a bomb does; "
            "if it is honest, pack it with less compression"
        )


def read_exactly(stream: IO[bytes], size: int, what: str) -> bytes:
    """So many bytes. Raises `InvalidData` where there are fewer."""
    pieces: list[bytes] = []
    missing = size
    while missing > 0:
        piece = stream.read(min(missing, bounds.PIECE_BYTES))
        if not piece:
            raise InvalidData(f"{what} is truncated: {missing:,} bytes are missing")
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def as_binary(stream: Capped) -> BinaryIO:
    """The same, to those who want the type."""
    return cast(BinaryIO, stream)


def _damaged(what: str, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    why = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    return f"{what} is damaged or truncated, or not what it seems ({why})"
