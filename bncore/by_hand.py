"""`python -m bncore run SPEC [DIR]`: a run by hand, without any service; progress on the way, a result at its end.

SPEC is a JSON file, or the directory of a run that did not end: then DIR goes on from that one's last checkpoint, bit
for bit as if nothing had happened. Invariant: a directory is made only for what can be trained, and holds one attempt.
Nothing of torch is imported.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bncore.events import CheckpointSaved, Event, Failed, Finished, MetricsBlock, Rested, Stopped, decode
from bncore.run_directory import RunLayout
from bncore.spec import SpecError, load_spec, parse_json, plan

_EVERY_SECONDS = 1.0


class Refused(Exception):
    """Why there is nothing to train; a line for each reason."""


def prepare(source: Path, directory: Path | None) -> RunLayout:
    """Make the run directory. Raises `Refused`."""
    former = RunLayout(source) if source.is_dir() else None
    spec = source if former is None else former.spec
    text = _checked(spec)
    saved = None if former is None else _last_checkpoint(former)
    layout = RunLayout(_chosen(source, directory))
    if not layout.path.parent.is_dir():
        raise Refused(f"{layout.path.parent}: there is no such directory to make {layout.path.name} in")
    try:
        layout.path.mkdir(exist_ok=True)
        if any(layout.path.iterdir()):
            raise Refused(f"{layout.path} is not empty; name a directory that is, or is not there yet")
        layout.spec.write_text(text)
        if former is not None and saved is not None:
            _restore(former, saved, layout)
    except OSError as error:
        raise Refused(f"{layout.path}: {error.strerror or error}") from None
    return layout


class Reporter:
    """Reads on in `events.jsonl` whenever there is something new, and says how far the run is."""

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._read = 0
        self._total = plan(load_spec(parse_json(layout.spec.read_bytes()))).total_steps
        self._began = self._said = time.monotonic()

    def look(self) -> None:
        """A line on standard error, at most one a second."""
        newest: dict[str, float] = {}
        step = 0
        for event in _events(self._layout.events, self._read):
            if isinstance(event, MetricsBlock):
                step = event.first_step + event.count - 1
                newest |= {key: values[-1] for key, values in event.values.items()}
        if step and time.monotonic() >= self._said + _EVERY_SECONDS:
            self._said = time.monotonic()
            self._read = self._layout.events.stat().st_size
            print(f"step {step:,} of {self._total:,}{_numbers(newest)}", file=sys.stderr, flush=True)

    def result(self, ended: object) -> None:
        """How it ended, on standard output."""
        path, seconds = self._layout.path, time.monotonic() - self._began
        match ended:
            case Finished(stop_reason=reason, summary=summary):
                print(f"{reason} at step {summary.steps:,} of {self._total:,}, {seconds:.1f} s")
                for key, value in {**summary.metrics, **_best(ended)}.items():
                    print(f"{key}: {value:.4g}")
                print(f"numbers: {self._layout.events}; weights: {self._layout.checkpoints}")
            case Stopped(step=step) | Rested(step=step):
                print(f"stopped at step {step:,} of {self._total:,}; go on: python -m bncore run {path} {path}-2")
            case Failed(code=code, message=message):
                print(f"failed: {code}: {message}", file=sys.stderr)


def _checked(spec: Path) -> str:
    """The text of a spec that can be trained."""
    try:
        text = spec.read_bytes()
        document = parse_json(text)
        load_spec(document)
    except OSError as error:
        raise Refused(f"{spec}: {error.strerror or error}") from None
    except SpecError as error:
        hint = "; YAML is what `bnlab` reads" if spec.suffix in (".yaml", ".yml") else ""
        lines = [": ".join(filter(None, (str(spec), fault.pointer, fault.detail + hint))) for fault in error.faults]
        raise Refused("\n".join(lines)) from None
    return text.decode()


def _chosen(source: Path, directory: Path | None) -> Path:
    if directory is not None:
        return directory
    if source.is_dir():
        raise Refused(f"name the directory to go on in, too: python -m bncore run {source} {source}-2")
    return Path(source.stem)


def _last_checkpoint(former: RunLayout) -> CheckpointSaved | None:
    """What to go on from; None where nothing was saved, so that the run begins anew."""
    found = None
    for event in _events(former.events):
        if isinstance(event, Finished):
            raise Refused(
                f"{former.path} has ended ({event.stop_reason} at step {event.step:,}): there is nothing to go on with"
            )
        if isinstance(event, CheckpointSaved) and event.state is not None:
            found = event
    return found


def _restore(former: RunLayout, saved: CheckpointSaved, layout: RunLayout) -> None:
    """Copied, so that either directory can be deleted."""
    assert saved.state is not None
    layout.restore.mkdir()
    shutil.copyfile(former.path / saved.weights.file, layout.restore_weights)
    shutil.copyfile(former.path / saved.state.file, layout.restore_state)
    if former.data.exists():
        layout.data.symlink_to(former.data.resolve())


def _events(path: Path, offset: int = 0) -> Iterator[Event]:
    """Whole lines from a place on."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        yield from (decode(line) for line in file if line.endswith(b"\n"))


def _numbers(newest: dict[str, float]) -> str:
    shown = [key for key in ("train/loss", "validation/accuracy", "test/accuracy") if key in newest]
    return "".join(f"  {key} {newest[key]:.4g}" for key in shown)


def _best(ended: Finished) -> dict[str, float]:
    best = ended.summary.best
    return {} if best is None else {f"best {best.metric}": best.value}
