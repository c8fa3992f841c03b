"""An experiment is called by its id, the beginning of that, its name, or `last`; two that could be meant are shown."""

import json

import pytest

from client import Client, ClientError
from client.commands.naming import MOST_SHOWN, id_of
from tests.client.answers import answering


@pytest.fixture
def submit(client, idle_spec):
    """Queue an experiment of a name; its id."""
    return lambda name: client.submit(idle_spec | {"name": name})["id"]


def test_a_name_the_newest_and_a_beginning_of_an_id_are_enough(client, cli, submit):
    older, newer = submit("called by its name"), submit("newest")
    assert id_of(client, older) == older
    assert id_of(client, "called by its name") == older
    assert id_of(client, "last") == newer
    # The digits behind the time are random: together they are as good as the whole.
    assert id_of(client, newer[:28]) == newer
    assert json.loads(cli("show", newer[:28], "--json").stdout)["experiment"]["id"] == newer


def test_what_could_be_several_is_refused_and_all_are_shown(client, cli, submit):
    ids = [submit("twice"), submit("twice")]
    with pytest.raises(ClientError, match="could be any") as refused:
        id_of(client, "twice")
    assert all(experiment_id in str(refused.value) for experiment_id in ids)
    result = cli("cancel", ids[0][:6])
    assert result.exit_code == 3
    assert ids[1] in result.stderr
    assert client.get(ids[0])["state"] == "queued"


@pytest.mark.parametrize("word", ["no such name", "exp_00000", "exp_ffffff"])
def test_what_nothing_is_called_is_refused(client, word):
    with pytest.raises(ClientError, match=word):
        id_of(client, word)


def test_a_misspelt_name_is_answered_with_the_nearest(client, submit):
    submit("digits-batch-renorm")
    with pytest.raises(ClientError, match="did you mean digits-batch-renorm"):
        id_of(client, "digits-batchrenorm")


ABOUT_AN_EXPERIMENT = ["show", "wait", "fetch", "metrics", "attempts", "logs", "clone"]
ABOUT_SEVERAL = ["cancel", "kill", "pause", "resume", "retry", "delete", "edit --name=x"]


@pytest.mark.parametrize("command", ABOUT_AN_EXPERIMENT + ABOUT_SEVERAL)
def test_every_command_about_an_experiment_takes_a_name(cli, command):
    result = cli(*command.split(), "nobody is called this")
    assert result.exit_code == 3
    assert "no experiment is called" in result.stderr


def test_of_several_nothing_is_done_to_the_first_before_all_are_known(client, cli, submit):
    first = submit("the first of two")
    assert cli("cancel", first, "nobody is called this").exit_code == 3
    assert client.get(first)["state"] == "queued"
    submit("now newest")
    assert cli("cancel", "last", "last").exit_code == 0


def listing(experiments, asked):
    """A server with that many experiments, a page of 100 at a time, newest first."""

    def answer(method, path):
        asked.append(path)
        first = int(path.partition("cursor=")[2] or 0)
        page = [{"id": f"exp_{number:032x}", "state": "queued"} for number in experiments[first : first + 100]]
        return 200, {"data": page, "next_cursor": str(first + 100) if first + 100 < len(experiments) else None}

    return answering(answer)


def test_a_beginning_is_not_looked_for_among_experiments_that_are_too_old():
    asked, hour = [], 3_600_000 << 80
    now = 0x019A << 112
    with listing([now - at * hour for at in range(1000)], asked) as url, Client(url) as client:
        with pytest.raises(ClientError, match="no experiment"):
            id_of(client, f"exp_{now + hour:032x}"[:20])
        assert len(asked) == 1
        with pytest.raises(ClientError, match="could be any") as refused:
            id_of(client, "exp_0")
    assert str(refused.value).count("  exp_") == MOST_SHOWN
    # None of them has a name, which shows as in a list.
    assert str(refused.value).count(" queued -\n") == MOST_SHOWN
