"""Which characters are seen where text is shown, as a name is: one that is not makes two names look alike, or turns
the text behind it around.

Invariant: words of every script are seen as they are written, joiners between their letters included.
"""

import unicodedata

STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories: controls (C0, DEL, C1); formats, the marks that reverse the direction of text among them; half
characters, which no encoding can write; and two ends of lines that only some programs know."""
JOINERS = frozenset("\u200c\u200d")
"""Without them, words of some languages and many emoji fall apart."""
_BLANK = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
"""Letters, signs and marks to Unicode, and blank: fillers of Hangul and Braille, and the joiner of graphemes."""
_TAGS = range(0xE0020, 0xE0080)
"""Behind a flag they say whose it is."""
_FLAG = "\U0001f3f4"


def unseen(text: str) -> str | None:
    """The first character that is not seen, None where all are."""
    if text.isascii() and text.isprintable():
        return None
    for place, char in enumerate(text):
        if char in _BLANK or (unicodedata.category(char) in STEERING and not _joins(text, place)):
            return char
    return None


def named(char: str) -> str:
    """A character in words: its number, and its name where it has one."""
    name = unicodedata.name(char, "")
    return f"U+{ord(char):04X}{f' ({name})' if name else ''}"


def _joins(text: str, place: int) -> bool:
    """Whether it is a joiner between what it could join, or a part of a flag."""
    if ord(text[place]) in _TAGS:
        return _FLAG in text[:place]
    if text[place] not in JOINERS or not 0 < place < len(text) - 1:
        return False
    return not (text[place - 1].isascii() or text[place + 1].isascii()) and text[place + 1] not in JOINERS
