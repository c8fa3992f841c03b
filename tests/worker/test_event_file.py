"""Reading a file that somebody else is writing."""

import pytest

from bncore.events import FirstStep, MetricsBlock, encode
from worker import event_file
from worker.event_file import EventFile, NotAnEvent


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def _steps(events):
    return [event.step for event in events]


def test_a_file_that_is_not_there_yet_holds_nothing(path):
    assert EventFile(path).read().events == ()


def test_a_line_counts_once_its_newline_is_there(path):
    line = encode(FirstStep(step=7)).encode()
    events = EventFile(path)
    path.write_bytes(line + line[:-1])
    batch = events.read()
    assert _steps(batch.events) == [7]
    events.advance(batch)
    assert events.read().events == ()
    path.write_bytes(line + line)
    assert _steps(events.read().events) == [7]


def test_what_was_not_stored_is_read_again(path):
    path.write_text(encode(FirstStep(step=1)))
    events = EventFile(path)
    assert events.read() == events.read()
    events.advance(events.read())
    assert events.read().events == ()


def test_a_long_file_comes_in_batches_and_a_line_longer_than_a_batch_comes_whole(path, monkeypatch):
    monkeypatch.setattr(event_file, "BATCH_BYTES", 100)
    long = MetricsBlock(first_step=1, count=50, values={"train/loss": [0.125] * 50})
    path.write_text("".join(encode(event) for event in (FirstStep(step=1), long, FirstStep(step=2))))
    events = EventFile(path)
    seen = []
    while (batch := events.read()).events:
        seen += batch.events
        events.advance(batch)
    assert [event.kind for event in seen] == ["first_step", "metrics", "first_step"]


def test_a_line_that_is_no_event_is_an_error(path):
    path.write_text("hello\n")
    with pytest.raises(NotAnEvent):
        EventFile(path).read()
