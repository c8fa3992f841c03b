"""HTML that is put together from elements.

Invariant: what is not `Markup` is escaped wherever it lands, text and attributes alike: a name that somebody has given
is never read as a tag.
"""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

_EMPTY = frozenset({"meta", "br", "hr", "wbr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """An element; None and "" among the children are nothing, and attributes that are None are left out.

    `class_` is the attribute class, and `aria_label` is aria-label.
    """
    given = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    said = "".join(f' {name}="{html.escape(str(value))}"' for name, value in given.items())
    if tag in _EMPTY:
        return Markup(f"<{tag}{said}>")
    return Markup(f"<{tag}{said}>{joined(children)}</{tag}>")


def joined(children: Iterable[Any]) -> Markup:
    """One behind the other."""
    return Markup("".join(_markup(child) for child in children))


def breakable(name: str) -> Markup:
    """A key such as test/accuracy, which may be continued on the next line behind its slashes and the like."""
    parts = re.split(r"(?<=[/_@])", name)
    return joined(each for part in parts for each in (part, element("wbr")))


def table(caption: str, head: Sequence[Any], rows: Sequence[Sequence[Any]], numbers: Sequence[int] = ()) -> Markup:
    """A table whose first column says what its row is about; `numbers` are columns that are aligned to the right."""
    kinds = ["number" if place in numbers else None for place in range(len(head))]
    titles = [element("th", title, scope="col", class_=kind) for title, kind in zip(head, kinds, strict=True)]
    body = []
    for row in rows:
        first = element("th", row[0], scope="row", class_=kinds[0])
        rest = [element("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)]
        body.append(element("tr", first, *rest))
    inside = element(
        "table", element("caption", caption), element("thead", element("tr", *titles)), element("tbody", *body)
    )
    # What is wider than the page is scrolled to, by keys too.
    return element("div", inside, class_="wide", tabindex="0", role="region", aria_label=caption)


def _markup(child: Any) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else html.escape(str(child))
