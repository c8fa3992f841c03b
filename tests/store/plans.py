"""What databases plan to do for a statement, and what is wrong with that: a table that is read or sorted as a whole."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from bench.rows import Rows, fill
from store.database import Database
from store.tables import Table

# A step deletes few rows, and which ones is for indexes to say that hold nothing else; they are read from the front.
MAY_BE_READ = (
    "ix_checkpoints_dropped",
    "ix_checkpoints_unfinished",
    "ix_contents_unused",
    "ix_files_dropped",
    "ix_files_unattached",
    "ix_files_unfinished",
    "ix_jobs_deadline",
    "ix_jobs_deleted",
    "ix_jobs_lease",
    "ix_jobs_running",
    "ix_sweeps_created_at",
    "ix_sweeps_searching",
)
FEW = 200
LISTINGS = ("ix_jobs_listed", "ix_jobs_owned", "ix_experiment")
SELECTIVE = ("(owner)", "(state)", "(queue)", "(kind)", "(name)", "(key)", "(value)")
# Parts are there of uploads alone that are open, none longer than a day.
SMALL = {"owners", "watches", "bells", "processes", "api_keys", "upload_parts"}
BIG = {table.name for table in Table.metadata.sorted_tables} - SMALL
Statement = tuple[str, Any]


def assert_planned(lab: Any, rows: Rows, look: Callable[[], list[str]]) -> None:
    """Over so many rows `look` finds no fault of a plan, before the planner has statistics and after."""
    fill(lab.database, rows)
    faults = look()
    with lab.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    faults += [f"with statistics: {fault}" for fault in look()]
    assert not faults, "\n".join(faults)


def faults_of_calls(lab: Any, named: Iterable[tuple[str, Callable[[], object]]]) -> list[str]:
    """What is wrong with the plans of what these calls execute."""
    statements: dict[str, list[Statement]] = {}
    for name, call in named:
        with heard(lab.database) as statements[name]:
            call()
    found = faults_of_sqlite if lab.database.engine.dialect.name == "sqlite" else faults_of_postgresql
    with lab.database.engine.connect() as connection:
        return [
            f"{name}: {fault}\n    {statement}"
            for name, said in statements.items()
            for statement, parameters in said
            for fault in found(connection, statement, parameters)
        ]


def in_session(sessions: Any, call: Callable[..., Any]) -> Any:
    with sessions as session:
        return call(session)


@contextmanager
def heard(database: Database) -> Iterator[list[Statement]]:
    """The statements that are sent meanwhile."""
    statements: list[Statement] = []

    def hear(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT", "WITH"):
            statements.append((statement, parameters[0] if many else parameters))

    event.listen(database.engine, "before_cursor_execute", hear)
    yield statements
    event.remove(database.engine, "before_cursor_execute", hear)


def faults_of_sqlite(connection: Connection, statement: str, parameters: Any) -> list[str]:
    if statement.startswith("INSERT"):
        return []
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    lines = [row[3] for row in plan]
    read = [line for line in lines if line.startswith("SCAN ") and line.split()[1] in BIG]
    read = [line for line in read if not line.endswith(MAY_BE_READ)]
    # The parts of a union are cut off before they are merged; the right part of an order are rows of one step.
    merges = any("MERGE" in line for line in lines)
    # Whoever changes all of a sweep locks it in one order, which is none of the sweep.
    merges = merges or any("sweep_id=?" in line for line in lines)
    return read + [line for line in lines if "TEMP B-TREE FOR ORDER" in line and not merges]


def faults_of_postgresql(connection: Connection, statement: str, parameters: Any) -> list[str]:
    if statement.startswith("INSERT"):
        return []
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).one()
    found = plan if isinstance(plan, list) else json.loads(plan)
    firsts = "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid, 1, true) FROM pg_index"
    first_columns = {name: first.strip('"') for name, first in connection.exec_driver_sql(firsts)}
    return list(faults_of_node(found[0]["Plan"], first_columns))


def faults_of_node(node: dict[str, Any], first_columns: dict[str, str]) -> Iterator[str]:
    kind, below = node["Node Type"], node.get("Plans", [])
    index, enters = node.get("Index Name"), node.get("Index Cond", "")
    if index and index not in MAY_BE_READ and first_columns[index] not in enters:
        yield f"{index} is not entered, but read"
    # A better index has that column.
    if index and index.startswith(LISTINGS) and any(word in node.get("Filter", "") for word in SELECTIVE):
        yield f"{index} leaves {node['Filter']} to be looked at row by row"
    if kind == "Seq Scan" and node["Relation Name"] in BIG:
        yield f"Seq Scan of {node['Relation Name']}"
    if kind in ("Sort", "Hash") and not all(map(is_bounded, below)):
        yield f"{kind} of {node.get('Sort Key', '')} over {[one['Node Type'] for one in below]}"
    for one in below:
        yield from faults_of_node(one, first_columns)


def is_bounded(node: dict[str, Any]) -> bool:
    """Whether it has few rows, whatever is in the tables: cut off, of one job, or of an index of few."""
    if node["Node Type"] == "Limit" or node.get("Index Name") in MAY_BE_READ:
        return True
    # What a planner expects to be few: with more of them it orders by an index.
    if node["Plan Rows"] <= FEW:
        return True
    if any("_id" in str(node.get(name, "")) for name in ("Index Cond", "Recheck Cond")):
        return True
    below = node.get("Plans", [])
    return bool(below) and all(map(is_bounded, below))
