"""Large pages change where memory lies, and nothing that is in it."""

import mmap
import re
from pathlib import Path

import pytest

from bncore import huge_pages


def in_large_pages() -> int:
    """KiB of this process."""
    found = re.search(r"AnonHugePages:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())
    assert found is not None
    return int(found[1])


def test_what_is_in_memory_stays_as_it_is() -> None:
    if not Path("/proc/self/smaps_rollup").exists() or not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("only Linux tells of large pages")
    memory = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    content = bytes(range(256)) * (len(memory) // 256)
    memory[:] = content
    before = in_large_pages()
    huge_pages.collapse()
    assert memory[:] == content
    # Sixteen megabytes have seven whole places at least; a kernel before 6.1 has none of it.
    assert in_large_pages() >= before
