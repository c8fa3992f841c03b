"""Whatever comes from outside can be stored."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.text import MESSAGE_CHARS, finite_json, storable

ANYTHING = st.text(st.characters(codec=None))


@given(ANYTHING)
def test_any_text_becomes_storable_and_storable_text_stays(text: str) -> None:
    clean = storable(text)
    clean.encode("utf-8")
    assert "\x00" not in clean
    assert storable(clean) == clean


@pytest.mark.parametrize("length", [MESSAGE_CHARS - 1, MESSAGE_CHARS, MESSAGE_CHARS + 1, 10**6])
def test_a_long_text_keeps_its_ends(length: int) -> None:
    clean = storable("a" + "b" * (length - 2) + "c")
    assert len(clean) <= min(length, MESSAGE_CHARS)
    assert (clean[0], clean[-1]) == ("a", "c")


@settings(max_examples=40)
@given(
    st.recursive(
        st.floats() | ANYTHING | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(ANYTHING, inner),
    )
)
def test_any_value_becomes_json_without_nan(value: object) -> None:
    json.dumps(finite_json(value), allow_nan=False).encode("utf-8")


def test_non_finite_numbers_become_words() -> None:
    found = finite_json({"a": [float("nan"), float("inf"), -float("inf"), 1.5]})
    assert found == {"a": ["NaN", "Infinity", "-Infinity", 1.5]}
