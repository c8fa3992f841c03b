"""The copies of data sets on a host: fetched once, kept while they are read, bounded, and never half of one."""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from store import files, queueing, work
from store.database import Database
from store.errors import DatasetDamaged, FileDamaged
from store.jobs import leases
from store.jobs.leases import Terms
from store.prepared import Data
from store.queueing import Limits, Newcomer, Submitter
from store.tables import ContentChunk, Dataset
from worker.data_cache import DataCache
from worker.fetching import Interrupted

SIZE = 1_500_000


def make(database: Database, seed: int) -> Data:
    """A data set of two files, as an import leaves it."""
    with database.write() as session:
        (job,) = queueing.enter(session.connection(), "dataset", [Newcomer(1)], Submitter("own_1", "cpu"), Limits())
        place = {"id": job["id"], "submitted_by": "own_1", "submitted_at": 0.0, "name": "n", "file_name": "n"}
        said = {"spec": {}, "fingerprint": "f", "source_size": 1, "source_sha256": str(seed)}
        session.execute(Dataset.__table__.insert().values(**place, **said))
    with database.write() as session:
        worker = leases.Worker("prc_1", "cpu", "m", "2")
        claim = work.take(session, worker, Terms(60.0), leases.new_token())
    for name, content in (("dataset.json", str(seed).encode()), ("train-inputs.npy", bytes([seed]) * SIZE)):
        announced = files.Announced(name, "array", None, len(content), hashlib.sha256(content).hexdigest())
        with database.write() as session:
            begun = files.begin(session, claim.lease, announced)
            for seq, start in enumerate(range(0, len(content), files.CHUNK_BYTES)):
                chunk = content[start : start + files.CHUNK_BYTES]
                files.write_chunk(session, claim.lease, begun.file_id, seq, chunk)
        with database.write() as session:
            files.complete(session, claim.lease, begun.file_id, announced.sha256)
    with database.write() as session:
        work.finish(session, claim.lease, work.Cancelled())
    return Data(job["id"], hashlib.sha256(str(seed).encode()).hexdigest())


@pytest.fixture
def database(sqlite_url):
    found = Database(sqlite_url)
    yield found
    found.dispose()


def go_on():
    return True


def test_a_data_set_is_there_whole_and_fetched_once_for_all_who_read_it_at_once(database, tmp_path):
    data = make(database, 1)
    found = []
    together = threading.Barrier(4)

    def read():
        together.wait()
        with DataCache(tmp_path, database, 10 * SIZE).holding(data, go_on) as folder:
            found.append((folder.stat().st_ino, (folder / "train-inputs.npy").read_bytes() == b"\1" * SIZE))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert found[0][1]
    assert sorted(path.name for path in (tmp_path / "datasets").iterdir()) == [data.sha256, f"{data.sha256}.lock"]


def test_what_was_read_longest_ago_goes_first_and_what_is_read_stays(database, tmp_path):
    cache = DataCache(tmp_path, database, int(2.5 * SIZE))
    first, second, third, fourth = (make(database, seed) for seed in range(1, 5))

    def kept():
        return [data for data in (first, second, third, fourth) if (tmp_path / "datasets" / data.sha256).exists()]

    with ExitStack() as reading:
        reading.enter_context(cache.holding(first, go_on))
        for data in (second, third):
            with cache.holding(data, go_on):
                pass
        assert kept() == [first, third]
        with cache.holding(fourth, go_on):
            assert kept() == [first, fourth]
    with cache.holding(second, go_on):
        assert kept() == [fourth, second] or kept() == [second, fourth]


def test_a_fetch_that_is_broken_off_leaves_nothing_that_passes_for_a_data_set(database, tmp_path):
    data = make(database, 1)
    cache = DataCache(tmp_path, database, 10 * SIZE)
    answers = iter([True, True, False])
    with pytest.raises(Interrupted), cache.holding(data, lambda: next(answers)):
        pass
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [f"{data.sha256}.lock"]
    left = tmp_path / "datasets" / f"{data.sha256}.part"
    left.mkdir()
    (left / "train-inputs.npy").write_bytes(b"half")
    with cache.holding(data, go_on) as folder:
        assert (folder / "train-inputs.npy").stat().st_size == SIZE
    assert not left.exists()


def test_what_is_not_what_it_is_known_by_is_refused(database, tmp_path):
    data = make(database, 1)
    cache = DataCache(tmp_path, database, 10 * SIZE)
    with pytest.raises(DatasetDamaged), cache.holding(Data(data.dataset_id, "0" * 64), go_on):
        pass
    with database.write() as session:
        session.execute(ContentChunk.__table__.update().where(ContentChunk.seq == 1).values(data=b"x" * 451_424))
    with pytest.raises(FileDamaged), cache.holding(data, go_on):
        pass
    assert not (tmp_path / "datasets" / data.sha256).exists()


def evict_and_be_killed(url, runs_dir, data):
    """Make room for a data set, and be killed with the second file that is removed for it."""
    removed = []

    def heard(event, arguments):
        if event == "os.remove":
            removed.append(arguments)
            if len(removed) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)
    with DataCache(runs_dir, Database(url), SIZE).holding(data, go_on):
        pass


def test_a_worker_that_is_killed_while_it_removes_one_leaves_none_that_passes_for_whole(database, sqlite_url, tmp_path):
    first, second = make(database, 1), make(database, 2)
    cache = DataCache(tmp_path, database, SIZE)
    with cache.holding(first, go_on):
        pass
    killed = multiprocessing.get_context("fork").Process(
        target=evict_and_be_killed, args=(sqlite_url, tmp_path, second)
    )
    killed.start()
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    with cache.holding(first, go_on) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "train-inputs.npy"]
    with cache.holding(second, go_on):
        assert sorted(path.name for path in (tmp_path / "datasets").iterdir()) == [
            second.sha256,
            f"{second.sha256}.lock",
        ]


def test_many_who_remove_one_anothers_at_once_each_have_what_they_read(database, tmp_path):
    wanted = [make(database, seed) for seed in range(1, 5)]
    together = threading.Barrier(4)

    def read(shift):
        together.wait()
        for turn in range(25):
            data = wanted[(turn + shift) % 4]
            with DataCache(tmp_path, database, 0).holding(data, go_on) as folder:
                assert (folder / "train-inputs.npy").stat().st_size == SIZE

    with ThreadPoolExecutor(4) as threads:
        for one in [threads.submit(read, shift) for shift in range(4)]:
            one.result(120)
