"""The `bnlab` command: every verb of the service, for people and, with --json, for programs."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import stamina.instrumentation
import typer

from client.commands.attempts import attempts
from client.commands.clone import clone
from client.commands.compare import compare
from client.commands.datasets import (
    add_dataset,
    cancel_dataset,
    delete_dataset,
    list_datasets,
    retry_dataset,
    show_dataset,
)
from client.commands.demo import demo
from client.commands.diagnose import diagnose
from client.commands.edit import edit
from client.commands.ending import cancel, delete, kill
from client.commands.evaluate import evaluate, list_evaluations
from client.commands.fetch import fetch
from client.commands.figure import figure
from client.commands.keys import create_key, list_keys, revoke_key, rotate_key
from client.commands.kinds import kinds
from client.commands.listing import list_experiments
from client.commands.logs import logs
from client.commands.metrics import metrics
from client.commands.outcome import EXIT_CODES
from client.commands.owner import owner
from client.commands.pausing import pause, resume, retry
from client.commands.show import show_experiment
from client.commands.studies import (
    cancel_study,
    delete_study,
    extend_study,
    list_claims,
    list_studies,
    pause_study,
    report_study,
    resume_study,
    retry_study,
    run_article,
    run_study,
    show_study,
    wait_study,
)
from client.commands.study_compare import compare_study
from client.commands.study_figure import study_figure
from client.commands.submit import submit, wait_for
from client.commands.sweep_figure import sweep_figure
from client.commands.sweep_results import sweep_results
from client.commands.sweep_validate import validate_sweep
from client.commands.sweeps import (
    cancel_sweep,
    delete_sweep,
    extend_sweep,
    list_sweeps,
    pause_sweep,
    resume_sweep,
    retry_sweep,
    show_sweep,
    submit_sweep,
    wait_sweep,
)
from client.commands.up import up
from client.commands.validate import validate
from client.commands.workers import workers

app = typer.Typer(
    name="bnlab",
    help="Train networks with and without normalization, as a service.\n\n"
    "`bnlab demo` shows it; `bnlab up` runs it here; `bnlab submit FILE --wait` uses it.\n\n"
    "Environment: BNLAB_URL and BNLAB_API_KEY name a server and its key; without them the local stack is used.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    # A traceback is for us, not in colours and not with the values of local variables, keys among them.
    pretty_exceptions_enable=False,
)

datasets = typer.Typer(help="Bring in your own data, look at it, delete it.", epilog=EXIT_CODES, no_args_is_help=True)
sweeps = typer.Typer(help="Many experiments of one template.", epilog=EXIT_CODES, no_args_is_help=True)
studies = typer.Typer(help="A question, its experiments, a verdict.", epilog=EXIT_CODES, no_args_is_help=True)
keys = typer.Typer(help="Make, list and end API keys.", epilog=EXIT_CODES, no_args_is_help=True)

_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Local": {"demo": demo, "up": up},
    "Experiments": {
        "validate": validate,
        "submit": submit,
        "clone": clone,
        "wait": wait_for,
        "list": list_experiments,
        "show": show_experiment,
        "edit": edit,
        "pause": pause,
        "resume": resume,
        "cancel": cancel,
        "kill": kill,
        "retry": retry,
        "delete": delete,
    },
    "Results": {
        "metrics": metrics,
        "compare": compare,
        "figure": figure,
        "diagnose": diagnose,
        "fetch": fetch,
        "attempts": attempts,
        "logs": logs,
    },
    "Studies": {"article": run_article},
    "Evaluations": {"evaluate": evaluate, "evaluations": list_evaluations},
    "Service": {"workers": workers, "owner": owner},
    "Reference": {"kinds": kinds},
}
_KEYS: dict[str, Callable[..., None]] = {
    "list": list_keys,
    "create": create_key,
    "rotate": rotate_key,
    "revoke": revoke_key,
}
_DATASETS: dict[str, Callable[..., None]] = {
    "add": add_dataset,
    "list": list_datasets,
    "show": show_dataset,
    "cancel": cancel_dataset,
    "retry": retry_dataset,
    "delete": delete_dataset,
}
_SWEEPS: dict[str, Callable[..., None]] = {
    "validate": validate_sweep,
    "submit": submit_sweep,
    "list": list_sweeps,
    "show": show_sweep,
    "wait": wait_sweep,
    "results": sweep_results,
    "figure": sweep_figure,
    "pause": pause_sweep,
    "resume": resume_sweep,
    "cancel": cancel_sweep,
    "retry": retry_sweep,
    "extend": extend_sweep,
    "delete": delete_sweep,
}
_STUDIES: dict[str, Callable[..., None]] = {
    "claims": list_claims,
    "run": run_study,
    "compare": compare_study,
    "list": list_studies,
    "show": show_study,
    "wait": wait_study,
    "report": report_study,
    "figure": study_figure,
    "extend": extend_study,
    "pause": pause_study,
    "resume": resume_study,
    "cancel": cancel_study,
    "retry": retry_study,
    "delete": delete_study,
}
for _panel, _members in _COMMANDS.items():
    for _name, _command in _members.items():
        app.command(_name, rich_help_panel=_panel, epilog=EXIT_CODES)(_command)
for _name, _command in _KEYS.items():
    keys.command(_name, epilog=EXIT_CODES)(_command)
for _name, _command in _DATASETS.items():
    datasets.command(_name, epilog=EXIT_CODES)(_command)
for _name, _command in _SWEEPS.items():
    sweeps.command(_name, epilog=EXIT_CODES)(_command)
for _name, _command in _STUDIES.items():
    studies.command(_name, epilog=EXIT_CODES)(_command)
app.add_typer(studies, name="study", rich_help_panel="Studies")
app.add_typer(sweeps, name="sweep", rich_help_panel="Experiments")
app.add_typer(datasets, name="dataset", rich_help_panel="Experiments")
app.add_typer(keys, name="keys", rich_help_panel="Service")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bnlab {version('bnlab')}")
        raise typer.Exit


@app.callback()
def prepare(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    # Retries are not the user's business unless they fail.
    stamina.instrumentation.set_on_retry_hooks([])


if __name__ == "__main__":
    app()
