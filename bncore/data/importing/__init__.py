"""From a user's file to a data set in canonical form, or a clear refusal."""

from bncore.data.importing.huggingface import import_huggingface
from bncore.data.importing.job import import_file
from bncore.data.importing.report import Report
from bncore.data.importing.run import run_import
from bncore.data.importing.streams import Interrupted

__all__ = ["Interrupted", "Report", "import_file", "import_huggingface", "run_import"]
