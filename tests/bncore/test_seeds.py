"""Streams of one seed are independent and the same everywhere."""

from bncore.seeds import derive_seed


def test_a_stream_is_the_same_on_every_machine() -> None:
    assert derive_seed(0, "init", "linear1") == derive_seed(0, "init", "linear1")
    # Pinned: a change would break the resumption of every stored experiment.
    assert derive_seed(0, "order", 3) == 1370740283343669378


def test_streams_differ_by_seed_word_and_the_place_of_the_cut() -> None:
    streams = [(0, "a"), (1, "a"), (0, "b"), (0, "ab", "c"), (0, "a", "bc"), (0, "a", 1), (0, "a", 11), (0,)]
    assert len({derive_seed(*stream) for stream in streams}) == len(streams)
    assert all(0 <= derive_seed(*stream) < 2**63 for stream in streams)
