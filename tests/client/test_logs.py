"""What a trainer prints is read, followed and shown, whatever it is."""

import json
import threading

import pytest

from store import logs, work
from store.database import Database
from store.jobs import leases
from store.jobs.leases import Terms


class Printing:
    """An attempt at an experiment by a hand that prints as its trainer would."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._printed = 0
        with database.write() as session:
            worker = leases.Worker("prc_hand", "cuda", "some model", "2.13.0")
            claim = work.take(session, worker, Terms(60.0), leases.new_token())
        assert claim is not None
        self.lease = claim.lease

    def say(self, text: bytes) -> None:
        with self._database.write() as session:
            logs.append(session, self.lease, self._printed, text)
        self._printed += len(text)

    def end(self, outcome: work.Outcome) -> None:
        with self._database.write() as session:
            work.finish(session, self.lease, outcome)


@pytest.fixture
def experiment(client, idle_spec):
    """An experiment that is the next for a worker with CUDA, and none is there."""
    client.cancel_all(state="queued")
    return client.submit(idle_spec)["id"]


@pytest.fixture
def print_in(stack, experiment):
    """Begin an attempt at that experiment."""
    database = Database(f"sqlite:///{stack.facts['data_dir']}/bnlab.sqlite3")

    def begin() -> Printing:
        begun = Printing(database)
        assert begun.lease.job_id == experiment
        return begun

    yield begin
    database.dispose()


def test_a_log_is_read_whole_from_its_end_and_attempt_by_attempt(cli, client, experiment, print_in):
    assert list(client.log(experiment)) == []
    nothing = cli("logs", experiment)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    first = print_in()
    # More than one answer holds.
    whole = "".join(f"line {number} of many\n" for number in range(20_000)).encode()
    for start in range(0, len(whole), logs.MAX_PIECE_BYTES):
        first.say(whole[start : start + logs.MAX_PIECE_BYTES])
    assert "".join(client.log(experiment)).encode() == whole
    assert len(list(client.log(experiment))) > 1
    assert "".join(client.log(experiment, tail=2)) == "line 19998 of many\nline 19999 of many\n"
    first.end(work.Released())
    second = print_in()
    second.say("\x1b[31m[red]Grüße\x1b[0m\nno end of line".encode())
    shown = cli("logs", experiment, "--tail", "5")
    assert shown.exit_code == 0
    assert shown.stdout == "\ufffd[31m[red]Grüße\ufffd[0m\nno end of line\n"
    second.end(work.Failed("trainer_error", "it did not work"))
    assert json.loads(cli("logs", experiment, "--json").stdout)["lines"][1] == "no end of line"
    assert cli("logs", experiment, "--attempt", "1", "-n", "1").stdout == "line 19999 of many\n"
    assert cli("logs", experiment, "--attempt", "1", "--json").stdout.count("of many") == 20_000


def test_following_goes_from_attempt_to_attempt_until_the_end(stack, experiment, print_in):
    followed, news = [], threading.Condition()

    def follow() -> None:
        with stack.client() as watching:
            for text in watching.log(experiment, follow=True):
                with news:
                    followed.append(text)
                    news.notify()

    def wait_for(text: str) -> None:
        with news:
            assert news.wait_for(lambda: text in "".join(followed), timeout=120.0), followed

    thread = threading.Thread(target=follow)
    thread.start()
    first = print_in()
    first.say(b"first\nhalf a li")
    wait_for("first\n")
    first.say(b"ne\n")
    wait_for("half a line\n")
    first.end(work.Released())
    second = print_in()
    second.say(b"second\n")
    wait_for("second\n")
    second.end(work.Failed("trainer_error", "it did not work"))
    thread.join(120.0)
    assert not thread.is_alive()
    assert "".join(followed) == "first\nhalf a line\nsecond\n"
