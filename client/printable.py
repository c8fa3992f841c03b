"""Text from elsewhere, fit for a terminal: names, states and messages are whatever somebody sent to the server.

Invariant: what comes out moves no cursor, changes no colour, rings no bell and reverses no line. A character that would
shows as its escape, `\\x1b`, so that it is seen and harmless.
"""

import unicodedata

from bncore.spec.seen import JOINERS, STEERING


def printable(text: str) -> str:
    """`text` with its lines and tabs, and nothing else that steers a terminal."""
    return _escaped(text, JOINERS | {"\n", "\t"})


def one_line(text: str) -> str:
    """`text` on one line: no part of it can pass for a line of ours."""
    return _escaped(text, JOINERS)


def _escaped(text: str, kept: frozenset[str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in STEERING and char not in kept else char
        for char in text
    )
