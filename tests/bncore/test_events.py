"""The lines of events.jsonl survive the round trip exactly, non-finite numbers included."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bncore.events import MetricsBlock, decode, encode


@given(st.lists(st.floats(), max_size=20))
def test_numbers_come_back_bit_for_bit(numbers: list[float]) -> None:
    block = MetricsBlock(first_step=1, count=len(numbers), values={"train/loss": numbers})
    again = decode(encode(block))
    assert isinstance(again, MetricsBlock)
    for sent, got in zip(numbers, again.values["train/loss"], strict=True):
        # All NaNs are one NaN; everything else, the sign of zero included, is the same 64 bits.
        assert (math.isnan(sent) and math.isnan(got)) or struct.pack("<d", sent) == struct.pack("<d", got)


def test_a_line_is_standard_json_and_ends_with_a_newline() -> None:
    line = encode(MetricsBlock(first_step=1, count=2, values={"a": [math.nan, -math.inf]}))
    assert line.endswith("\n")
    assert '"a":["NaN","-Infinity"]' in line


@pytest.mark.parametrize(
    "line", ["", "{}", '{"kind":"unheard"}', '{"kind":"first_step"}', '{"kind":"stopped","step":1,"x":2}']
)
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValidationError):
        decode(line)
