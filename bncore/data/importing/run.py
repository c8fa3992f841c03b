"""An import as a job: `import.json` and `source/` of a run directory in, files and a report out.

Invariant: nothing but the run directory is written, and a data set is announced whole: `dataset.json` comes last, when
every array that it names is there.
"""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast, get_args

from bncore.data.dataset import InvalidData
from bncore.data.importing.huggingface import import_huggingface
from bncore.data.importing.job import import_file
from bncore.data.importing.report import Report
from bncore.data.importing.streams import Interrupted
from bncore.data.importing.writing import CONTACT_SHEET, DATASET, REPORT, dataset_files
from bncore.events import Concluded, Failed, Phase, PhaseChanged, Stopped
from bncore.spec.faults import SpecError
from bncore.spec.importing import load_import
from bncore.spec.parse import parse_json
from bncore.train.attempt import conclude, failure_of
from bncore.train.run_directory import RunDirectory

HUGGINGFACE_FOLDER = "BNLAB_HUGGINGFACE_FOLDER"
"""Where this worker's operator keeps data sets of the hub, a folder each by their names. Looked at before the hub."""

_UNFINISHED = "importing"
_KINDS = {DATASET: "dataset", REPORT: "report", CONTACT_SHEET: "contact_sheet"}
_MESSAGE_CHARS = 500

_logger = logging.getLogger(__name__)


def run_import(directory: RunDirectory, stop_asked: Callable[[], bool]) -> Concluded | Stopped | Failed:
    """Import what lies in the run directory's `source/`; how it ended, which is the last event written there.

    Files of the data set, `report.json`, and of images `contact.png` come under `files/`; the result is the report.
    """
    return conclude(directory, _run(directory, stop_asked))


def _run(directory: RunDirectory, stop_asked: Callable[[], bool]) -> Concluded | Stopped | Failed:
    unfinished = directory.path / _UNFINISHED
    # Of an attempt that was killed.
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        report = _import(directory, unfinished, stop_asked)
        for path in dataset_files(unfinished):
            directory.save(path.name, _KINDS.get(path.name, "array"), _moving(path))
        return Concluded(result=report.model_dump(mode="json"))
    except Interrupted:
        return Stopped(step=0)
    except InvalidData as error:
        return Failed(code="invalid_data", message=str(error)[:_MESSAGE_CHARS])
    except SpecError as error:
        return Failed(code="invalid_data", message=f"import.json: {error}"[:_MESSAGE_CHARS])
    # Everything else is caught, too: an import that failed without saying how would be tried again, and fail again.
    except Exception as error:
        _logger.exception("import failed")
        return failure_of(error)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _import(directory: RunDirectory, out_dir: Path, stop_asked: Callable[[], bool]) -> Report:
    options = load_import(parse_json(directory.layout.import_.read_bytes()))

    def say(phase: str) -> None:
        assert phase in get_args(Phase)
        directory.log(PhaseChanged(phase=cast(Phase, phase)))
        directory.ring()

    if options.huggingface is not None:
        said = os.environ.get(HUGGINGFACE_FOLDER)
        folder = Path(said) if said else None
        return import_huggingface(options, folder, out_dir, stop_asked=stop_asked, say=say)
    return import_file(_source(directory.layout.source), options, out_dir, stop_asked=stop_asked, say=say)


def _source(folder: Path) -> Path:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    if len(files) != 1:
        raise InvalidData(f"one file is imported, and {len(files)} lie in {folder.name}/")
    return files[0]


def _moving(path: Path) -> Callable[[Path], None]:
    def move(target: Path) -> None:
        path.rename(target)

    return move
