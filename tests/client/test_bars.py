"""What stands at the end of a bar: how long the run took, whoever looked on for how long."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from client.commands.output import Bars, Clock

RUN = {"id": "exp_1", "name": "one"}


@pytest.fixture
def progress():
    return Progress(Clock(), console=Console(file=io.StringIO()), auto_refresh=False, get_time=lambda: 0.0)


def clock_of(progress):
    return str(progress.columns[0].render(progress.tasks[0]))


def ended(**summary):
    return {**RUN, "state": "succeeded", "is_terminal": True, "progress": {"step": 3}, "summary": summary}


def test_a_run_that_had_ended_before_shows_how_long_it_trained(progress):
    bars = Bars(progress)
    bars.add(RUN)
    bars.update(ended(seconds=1234.56))
    assert clock_of(progress) == "1,234.6 s"


def test_of_one_of_which_that_is_not_known_nothing_is_said(progress):
    bars = Bars(progress)
    bars.add(RUN)
    bars.update(ended())
    assert clock_of(progress) == ""


def test_one_that_trains_shows_how_long_it_was_watched(progress):
    bars = Bars(progress)
    bars.add(RUN)
    bars.update({**RUN, "state": "running", "progress": {"step": 1}})
    assert clock_of(progress) == "0:00:00"
    bars.update(ended())
    assert clock_of(progress) == "0:00:00"
