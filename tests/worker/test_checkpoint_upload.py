"""Which checkpoints are worth storing when several wait."""

import pytest

from bncore.events import CheckpointSaved, StoredFile
from worker.checkpoint_upload import worth_storing


def _saved(*words):
    """`best 3`, `last 5` and so on."""
    events = []
    for word in words:
        kind, step = word.split()
        file = StoredFile(file=f"checkpoints/{kind}-{step}", size=1, sha256="0")
        events.append(CheckpointSaved(at=0.0, checkpoint_kind=kind, step=int(step), epoch=0, weights=file))
    return events


@pytest.mark.parametrize(
    ("waiting", "kept"),
    [
        ([], []),
        (["best 1"], ["best 1"]),
        (["best 1", "best 2"], ["best 2"]),
        (["last 1", "last 2"], ["last 2"]),
        (["best 1", "best 2", "last 3", "best 4", "best 5"], ["best 2", "last 3", "best 5"]),
        (["best 1", "last 2", "best 3", "last 4"], ["best 3", "last 4"]),
        (["best 1", "last 2", "last 4"], ["best 1", "last 4"]),
    ],
)
def test_the_newest_last_stays_with_the_newest_best_before_and_after_it(waiting, kept):
    assert worth_storing(_saved(*waiting)) == _saved(*kept)
