"""Many rows of every kind, by a handful of statements: what the store looks like after years, in seconds.

Invariant: the same numbers make the same rows on SQLite and PostgreSQL; the newest are the ones that wait and run.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from store.database import Database

OWNERS = 10
FREE = 60
"""Experiments and evaluations, the first of each, that no study is judged by."""
_AT = 1_700_000_000


@dataclass(frozen=True)
class Rows:
    """How many jobs there are, how many of them wait (the newest) and run (those before them), and how much one has."""

    jobs: int
    queued: int = 1000
    running: int = 20
    of_one: int = 1000
    """Log lines and checkpoints of the newest experiment that has ended."""
    others: int = 0
    """Data sets, uploads, evaluations, predictions and studies, so many of each; `jobs` are experiments."""
    a_sweep: int = 0
    """Experiments of one sweep, which follow one another; without any there is no sweep."""

    @property
    def ended(self) -> int:
        return self.jobs - self.queued - self.running

    @property
    def busiest(self) -> str:
        """The job that has many log lines and checkpoints."""
        return job_id(self.ended - 1)


def job_id(number: int, prefix: str = "exp") -> str:
    return f"{prefix}_{number:032x}"


def fill(database: Database, rows: Rows) -> None:
    """Put the rows into an empty, migrated database."""
    with database.engine.begin() as connection:
        if not _lite(connection):
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        _owners(connection)
        _jobs(connection, rows)
        _experiments(connection, rows)
        _tags(connection, rows)
        _logs(connection, rows)
        _checkpoints(connection, rows)
        _series(connection, rows)
        _requests(connection, rows)
        if rows.a_sweep:
            _sweeps(connection, rows)
        if rows.others:
            _evaluations(connection, rows)
            _datasets(connection, rows)
            _predictions(connection, rows)
            _studies(connection, rows)


def _owners(connection: Connection) -> None:
    connection.exec_driver_sql("DELETE FROM owners")
    _insert(connection, "owners", OWNERS, id=_owner("i"), name=_owner("i"), stored_bytes="0", created_at=str(_AT))


def _jobs(connection: Connection, rows: Rows) -> None:
    waits, runs = f"i >= {rows.ended + rows.running}", f"i >= {rows.ended}"
    ended = "CASE i % 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'succeeded' END"
    at, claimed = f"{_AT} + i", f"CASE WHEN {waits} THEN NULL ELSE {_AT} + i + 1 END"
    running = f"CASE WHEN {runs} AND NOT {waits} THEN {{}} END"
    _insert(
        connection,
        "jobs",
        rows.jobs,
        id=_id(connection, "i"),
        kind="'experiment'",
        owner=_owner(f"i % {OWNERS}"),
        state=f"CASE WHEN {waits} THEN 'queued' WHEN {runs} THEN 'running' ELSE {ended} END",
        version="3",
        queue="'cpu'",
        priority="0",
        turn=f"i / {OWNERS}",
        attempt=f"CASE WHEN {waits} THEN 0 ELSE 1 END",
        restarts="0",
        max_restarts="3",
        last_event=f"CASE i WHEN {rows.ended - 1} THEN {rows.of_one + 1} ELSE 1 END",
        lease_token=running.format(_id(connection, "i")),
        lease_seconds=running.format("60.0"),
        lease_expires_at=running.format("4e9"),
        deadline_seconds="CASE WHEN i % 3 = 0 THEN 1e9 END",
        paused_seconds="0",
        created_at=at,
        queued_at=at,
        first_claimed_at=claimed,
        claimed_at=claimed,
        finished_at=f"CASE WHEN {runs} THEN NULL ELSE {_AT} + i + 2 END",
    )


def _experiments(connection: Connection, rows: Rows) -> None:
    _insert(
        connection,
        "experiments",
        rows.jobs,
        id=_id(connection, "i"),
        submitted_by=_owner(f"i % {OWNERS}"),
        submitted_at=f"{_AT} + i",
        name="'run-' || CAST(i % 1000 AS TEXT)",
        tags='\'{"paper": "p"}\'',
        spec='\'{"train": {"steps": 2000}}\'',
        spec_version="1",
        fingerprint="'f'",
        step="0",
        total_steps="2000",
        # Four in five have one; sixteen in twenty have ended well.
        accuracy=f"CASE WHEN i < {rows.ended} AND i % 5 <> 0 THEN (i * 7919 % 10007) / 10007.0 END",
        stop_reason=f"CASE WHEN i < {rows.ended} AND i % 20 > 1 THEN 'budget' END",
    )


def _tags(connection: Connection, rows: Rows) -> None:
    place = {"submitted_by": _owner(f"i % {OWNERS}"), "submitted_at": f"{_AT} + i"}
    name = _id(connection, "i")
    values = {"paper": "'p' || CAST(i % 97 AS TEXT)", "arm": "CAST(i % 7 AS TEXT)"}
    for key, value in values.items():
        _insert(connection, "experiment_tags", rows.jobs, experiment_id=name, key=f"'{key}'", value=value, **place)


def _logs(connection: Connection, rows: Rows) -> None:
    line = {"attempt": "0", "kind": "'submitted'", "message": "'Queued for cpu.'", "data": "'{}'", "at": f"{_AT} + i"}
    _insert(connection, "job_events", rows.jobs, job_id=_id(connection, "i"), number="1", **line)
    _insert(connection, "job_events", rows.of_one, job_id=f"'{rows.busiest}'", number="i + 2", **line)


def _checkpoints(connection: Connection, rows: Rows) -> None:
    some = {"experiment_id": _id(connection, "i"), "kind": "'last'", "step": "2000"}
    _checkpoints_of(connection, "ckp", rows.ended - 1, **some)
    many = {"experiment_id": f"'{rows.busiest}'", "kind": "'periodic'", "step": "i"}
    _checkpoints_of(connection, "many", rows.of_one, **many)
    chunk = {"seq": "i % 10", "data": _bytes(connection, "x")}
    of_many = f"'con_many_' || {_id(connection, 'i / 10')}"
    _insert(connection, "content_chunks", 10 * rows.of_one, content_id=of_many, **chunk)


def _checkpoints_of(connection: Connection, prefix: str, count: int, **facts: str) -> None:
    """With a file each, which has a content of its own."""
    name = f"'{prefix}_' || {_id(connection, 'i')}"
    whole = {"created_at": str(_AT), "whole_at": str(_AT)}
    same = {"owner": _owner(f"i % {OWNERS}"), "size": "10", "sha256": name}
    _insert(connection, "contents", count, id=f"'con_' || {name}", uses="1", **same, **whole)
    of = {"job_id": facts["experiment_id"], "content_id": f"'con_' || {name}", "step": facts["step"]}
    said = {"name": "'a.safetensors'", "kind": "'weights'"}
    _insert(connection, "files", count, id=f"'fil_' || {name}", **same, **of, **said, **whole)
    trained = {"attempt": "1", "epoch": "0", "metrics": "'{}'", "weights_id": f"'fil_' || {name}"}
    _insert(connection, "checkpoints", count, id=name, **facts, **trained, **whole)


def _series(connection: Connection, rows: Rows) -> None:
    summary = {"first_step": "1", "last_step": "1", "first": "0", "last": "0", "minimum": "0", "maximum": "0"}
    place = {"experiment_id": _id(connection, "i"), "key": "'train/loss'", "count": "1", "nonfinite": "0"}
    _insert(connection, "metric_series", rows.ended, **place, **summary)
    packed = {"attempt": "1", "steps": _bytes(connection, ""), "points": _bytes(connection, "12345678")}
    _insert(connection, "metric_segments", rows.ended, **place, **summary, **packed)


def _requests(connection: Connection, rows: Rows) -> None:
    made = {"method": "'POST'", "path": "'/v1/experiments'", "key": _id(connection, "i"), "fingerprint": "'f'"}
    at = {"created_at": str(_AT), "expires_at": "4e9"}
    of = _id(connection, f"{rows.jobs - 1} - i")
    _insert(connection, "idempotency_keys", rows.queued, owner="'own_0'", **made, experiment_id=of, **at)


def _sweeps(connection: Connection, rows: Rows) -> None:
    """Of ten points, and as many seeds as there is room for; a rung of each was decided."""
    count = rows.jobs // rows.a_sweep
    # As long as one is: a planner looks at how many pages there are.
    spec = f"'\"{'x' * 1000}\"'"
    said = {"owner": _owner(f"i % {OWNERS}"), "spec": spec, "seeds": "'[0]'", "points": "10", "queue": "'cpu'"}
    _insert(connection, "sweeps", count, id=_id(connection, "i", "swp"), **said, created_at=f"{_AT} + i")
    place = f"i % {rows.a_sweep}"
    of = {"experiment_id": _id(connection, "i"), "sweep_id": _id(connection, f"i / {rows.a_sweep}", "swp")}
    which = {"place": place, "point": f"({place}) % 10", "seed": f"({place}) / 10", "values": "'{}'"}
    _insert(connection, "sweep_experiments", count * rows.a_sweep, **of, **which)
    rung = {"bracket": "''", "number": "0", "step": "10", "points": "10", "kept": "5", "decided_at": str(_AT)}
    _insert(connection, "sweep_rungs", count, sweep_id=_id(connection, "i", "swp"), **rung, ranking=spec)


def _datasets(connection: Connection, rows: Rows) -> None:
    """With two files each, read by an experiment and an evaluation; and as many uploads, a tenth of them open."""
    name, count, at = _id(connection, "i", "dat"), rows.others, f"{_AT} + i"
    _other_jobs(connection, rows, "dat", "dataset")
    said = {"name": "'set-' || CAST(i % 50 AS TEXT)", "file_name": "'a.npz'", "spec": "'{}'", "fingerprint": "'f'"}
    made = {"source_size": "10", "source_sha256": name, "sha256": name, "manifest": "'{}'", "report": "'{}'"}
    place = {"submitted_by": _owner(f"i % {OWNERS}"), "submitted_at": at}
    _insert(connection, "datasets", count, id=name, **place, **said, **made)
    for kind in ("array", "dataset"):
        _files(connection, count, kind, name)
    for reader in ("exp", "evl"):
        _insert(connection, "dataset_uses", count, dataset_id=name, job_id=_id(connection, "i", reader))
    upload, became = _id(connection, "i", "upl"), f"CASE WHEN i % 10 = 0 THEN NULL ELSE {name} END"
    until = f"CASE WHEN i % 10 = 0 THEN 4e9 + i ELSE {_AT} + i END"
    times = {"created_at": at, "expires_at": until, "dataset_id": became, "idempotency_key": upload}
    _insert(connection, "uploads", count, id=upload, owner=_owner(f"i % {OWNERS}"), **said, **times)
    part = {"size": "10", "sha256": f"'{'0' * 64}'", "file_id": f"'fil_part_' || {name}"}
    of_parts = {"upload_id": _id(connection, "i / 4", "upl"), "number": "i % 4 + 1"}
    _insert(connection, "upload_parts", 4 * count, **of_parts, **part)
    _files(connection, count, "part", None)


def _evaluations(connection: Connection, rows: Rows) -> None:
    _other_jobs(connection, rows, "evl", "evaluation")
    # As long as one is: a planner looks at how many pages there are.
    found = f'\'{{"before": {{}}, "after": null, "reason": "{"x" * 1000}"}}\''
    of = {"experiment_id": _id(connection, "i / 4"), "checkpoint_id": "'ckp'", "spec": "'{}'", "result": found}
    _subjects(connection, rows, "evaluations", "evl", **of)
    _files(connection, rows.others, "held_checkpoint", _id(connection, "i", "evl"))


def _predictions(connection: Connection, rows: Rows) -> None:
    """All but forgotten: a purge takes them away."""
    _other_jobs(connection, rows, "prd", "prediction", deleted_at=f"{_AT} + i")
    _subjects(connection, rows, "predictions", "prd", checkpoint_id="'ckp'", spec="'{}'", result="'{}'")


def _studies(connection: Connection, rows: Rows) -> None:
    """With three experiments and an evaluation each, and a verdict; one in 200 waits, one in ten is part of another."""
    waits = "i % 200 = 7"
    _other_jobs(connection, rows, "stu", "study", state=f"CASE WHEN {waits} THEN 'paused' ELSE 'succeeded' END")
    whole = f"CASE WHEN i % 10 = 3 THEN {_id(connection, 'i - 1', 'stu')} ELSE '' END"
    # As long as they are: a planner looks at how many pages there are.
    asked = f"'\"{'x' * 1000}\"'"
    said = {"part_of": whole, "tags": "'{}'", "claim": "'c'", "asked": asked, "extensions": "'[]'"}
    flags = {"waiting": f"({waits})", "held": "(1 = 0)"}
    _subjects(connection, rows, "studies", "stu", **said, **flags, seeds="6", most="12", judged="1")
    place = {"stage": "'confirm'", "arm": "'bn'", "setting": "'{}'", "seed": "i % 3", "evaluated": "(1 = 0)"}
    of_study = {"study_id": _id(connection, "i / 3", "stu"), "place": "i % 3"}
    free = f"i + {FREE}"
    _insert(connection, "study_jobs", 3 * rows.others - FREE, job_id=_id(connection, free), **of_study, **place)
    measured = _id(connection, f"3 * i + {FREE}")
    of_study = {"study_id": _id(connection, "i", "stu"), "place": "3", "of_experiment": measured}
    _insert(connection, "study_jobs", rows.others - FREE, job_id=_id(connection, free, "evl"), **of_study, **place)
    judged = {"verdicts": "'[]'", "taken": "'{}'", "runs": f"'\"{'x' * 1000}\"'", "facts": "'{}'"}
    name = _id(connection, "i", "stu")
    _insert(connection, "study_verdicts", rows.others, study_id=name, number="1", judged_at=str(_AT), **judged)


def _subjects(connection: Connection, rows: Rows, table: str, prefix: str, **columns: str) -> None:
    place = {"submitted_by": _owner(f"i % {OWNERS}"), "submitted_at": f"{_AT} + i"}
    _insert(connection, table, rows.others, id=_id(connection, "i", prefix), **place, **columns)


def _other_jobs(connection: Connection, rows: Rows, prefix: str, kind: str, **columns: str) -> None:
    at, numbers = f"{_AT} + i", dict.fromkeys(("priority", "restarts", "paused_seconds"), "0")
    same = {"version": "3", "queue": "'cpu'", "attempt": "1", "max_restarts": "3", "last_event": "1", **numbers}
    state = "CASE i % 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'succeeded' END"
    place = {"owner": _owner(f"i % {OWNERS}"), "turn": f"i / {OWNERS}", "kind": f"'{kind}'", "state": state}
    times = dict.fromkeys(("created_at", "queued_at", "first_claimed_at", "claimed_at", "finished_at"), at)
    _insert(connection, "jobs", rows.others, id=_id(connection, "i", prefix), **{**same, **place, **times, **columns})


def _files(connection: Connection, count: int, kind: str, job: str | None) -> None:
    """A file of each job, or of none, which has a content of its own."""
    name = f"'{kind}_' || {_id(connection, 'i', 'dat')}"
    whole = {"created_at": str(_AT), "whole_at": str(_AT)}
    same = {"owner": _owner(f"i % {OWNERS}"), "size": "10", "sha256": name}
    _insert(connection, "contents", count, id=f"'con_' || {name}", uses="1", **same, **whole)
    said = {"name": "'a'", "kind": f"'{kind}'", "content_id": f"'con_' || {name}"}
    of = {} if job is None else {"job_id": job}
    _insert(connection, "files", count, id=f"'fil_' || {name}", **same, **said, **of, **whole)


def _insert(connection: Connection, table: str, count: int, /, **columns: str) -> None:
    """As many rows as `count`, whose columns are expressions of the number `i`."""
    numbers = f"generate_series(0, {count - 1}) AS numbers(i)"
    if _lite(connection):
        numbers = (
            f"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1}) SELECT i FROM n)"
        )
    names, values = ", ".join(f'"{name}"' for name in columns), ", ".join(columns.values())
    connection.execute(text(f"INSERT INTO {table} ({names}) SELECT {values} FROM {numbers}"))


def _id(connection: Connection, number: str, prefix: str = "exp") -> str:
    if _lite(connection):
        return f"printf('{prefix}_%032x', {number})"
    return f"('{prefix}_' || lpad(to_hex({number}), 32, '0'))"


def _bytes(connection: Connection, content: str) -> str:
    return f"CAST('{content}' AS BLOB)" if _lite(connection) else f"'{content}'::bytea"


def _owner(number: str) -> str:
    return f"('own_' || CAST({number} AS TEXT))"


def _lite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"
