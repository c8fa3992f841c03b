"""When reaping is safe."""

from worker.housekeeping import Purge, Reaper, ReapingClock


class _Clock:
    moment = 100.0

    def __call__(self):
        return self.moment


def _after(clock, reaping, seconds):
    clock.moment += seconds
    return reaping.contact()


def test_nothing_is_reaped_until_one_lease_after_the_first_contact():
    clock = _Clock()
    reaping = ReapingClock(lease_seconds=10.0, longest_gap_seconds=4.0, clock=clock)
    assert [_after(clock, reaping, 2.0) for _ in range(6)] == [False] * 5 + [True]


def test_after_a_gap_workers_get_a_whole_lease_again():
    clock = _Clock()
    reaping = ReapingClock(lease_seconds=10.0, longest_gap_seconds=4.0, clock=clock)
    assert [_after(clock, reaping, 2.0) for _ in range(7)][-1]
    assert not _after(clock, reaping, 4.1)
    assert [_after(clock, reaping, 2.0) for _ in range(5)] == [False] * 4 + [True]


def test_turns_of_an_empty_database_do_nothing(database):
    Reaper(database, lease_seconds=1.0, every_seconds=0.2).turn()
    assert Purge(database).turn() is False
