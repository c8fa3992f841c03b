"""A step of a study as a job: `study.json` of a run directory in, what follows from it out.

Invariant: nothing but the run directory is written; the same file gives the same event. SciPy is imported when there
is something to judge, and where it is not installed the failure says so.
"""

import json
from collections.abc import Callable

from bncore.events import Concluded, Failed, Stopped
from bncore.train.attempt import conclude
from bncore.train.run_directory import RunDirectory

NO_SCIPY = "Studies are judged with SciPy, which this worker's host lacks: install bnlab[worker] there, then retry."
_CURE = "Retry its failed experiments, and it is judged anew."
_MESSAGE_CHARS = 500


def run_step(directory: RunDirectory, _stop_asked: Callable[[], bool]) -> Concluded | Stopped | Failed:
    """What follows from what a study has found; the last event, which is logged."""
    return conclude(directory, _run(directory))


def _run(directory: RunDirectory) -> Concluded | Failed:
    found = json.loads(directory.layout.study.read_bytes())
    if found.get("rests"):
        return Concluded(result={"rests": True})
    from bncore.studies import stepping

    try:
        return Concluded(result=stepping.step(found))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "scipy":
            raise
        return Failed(code="studies_missing", message=NO_SCIPY)
    except stepping.DesignChanged as error:
        return Failed(code="design_changed", message=str(error))
    except stepping.Stuck as error:
        return Failed(code="study_incomplete", message=f"{error}. {_CURE}"[:_MESSAGE_CHARS])
