"""Files: announced, written in chunks, whole once compared with their SHA-256, read verified, dropped, purged.

Invariant: a file is shown only when every byte it announced is there and their SHA-256 is the announced one. Of one
owner, files that have the same bytes share one content, whose bytes count once towards the owner.
"""

from store.files.announcing import Announced, Begun, announce, attach, begin, begin_of
from store.files.dropping import condemn, drop, drop_of_jobs
from store.files.reading import CHUNK_BYTES, chunk, digest, get, of_job, read
from store.files.small import Small, store_new
from store.files.writing import (
    become_whole,
    complete,
    complete_of,
    start_over,
    write_chunk,
    write_chunk_of,
)

__all__ = [
    "CHUNK_BYTES",
    "Announced",
    "Begun",
    "Small",
    "announce",
    "attach",
    "become_whole",
    "begin",
    "begin_of",
    "chunk",
    "complete",
    "complete_of",
    "condemn",
    "digest",
    "drop",
    "drop_of_jobs",
    "get",
    "of_job",
    "read",
    "start_over",
    "store_new",
    "write_chunk",
    "write_chunk_of",
]
