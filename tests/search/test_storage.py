"""Storage: SQLite with its log, one sentence for what goes wrong, claims that only one can make."""

import os
import sqlite3

import pytest

from unet_nas.errors import InputError, UnetNasError
from unet_nas.search.claims import claims_of
from unet_nas.search.storage import (
    Heartbeat,
    Place,
    backend_of,
    open_study,
    silences,
    storage_errors,
)


@pytest.fixture
def place(tmp_path):
    return Place.of(tmp_path, None, "demo")


def test_sqlite_has_a_log_and_waits(place):
    study = open_study(place, ["maximize"])
    with backend_of(study).engine.connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "synchronous")
        ]
    assert values == ["wal", 60_000, 1]
    assert len(open_study(place, ["maximize"]).trials) == 0


def test_sqlite_serves_four_workers(place):
    place.check_workers(4)
    with pytest.raises(InputError, match="at most 4 workers, got 5"):
        place.check_workers(5)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "must be a URL as postgresql"),
        ("sqlite://", "outlives the process"),
        ("sqlite:///:memory:", "outlives the process"),
    ],
)
def test_urls_that_cannot_be(tmp_path, url, message):
    with pytest.raises(InputError, match=message):
        Place.of(tmp_path, url, "demo")


def test_a_database_that_never_was(tmp_path):
    place = Place.of(tmp_path, f"sqlite:///{tmp_path}/nowhere/x.db", "demo")
    with pytest.raises(InputError, match=r"there is no folder .*/nowhere: make it"):
        open_study(place, ["maximize"])
    # a name that is too long cannot be opened, by root either
    place = Place.of(tmp_path, f"sqlite:///{tmp_path}/{'x' * 300}.db", "demo")
    with pytest.raises(InputError, match=r"cannot write to .*: file name too long"):
        open_study(place, ["maximize"])


def test_studies_at_one_url_are_told_apart(tmp_path):
    url = f"sqlite:///{tmp_path / 'all.db'}"
    one, other = (Place.of(tmp_path / name, url, "demo") for name in ("a", "b"))
    open_study(one, ["maximize"]).ask()
    assert len(open_study(other, ["minimize"]).trials) == 0


def test_a_driver_that_is_not_installed(tmp_path):
    place = Place.of(tmp_path, "postgresql+nodriver://me:secret@host/db", "demo")
    with pytest.raises(InputError, match="driver is not installed") as caught:
        open_study(place, ["maximize"])
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(place):
    place.file.write_text("these are not the rows you look for" * 10)
    with pytest.raises(InputError, match="is not a database of SQLite"):
        open_study(place, ["maximize"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(place, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write to"):
        open_study(place, ["maximize"])


def test_a_full_disk(place):
    study = open_study(place, ["maximize"])
    # SQLite's own limit gives the same error as a disk that is full
    with storage_errors(place), backend_of(study).engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(UnetNasError, match="no space left"), storage_errors(place):
            connection.exec_driver_sql("CREATE TABLE big (x)")
            connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(1000000))")


def test_a_file_that_is_deleted(place):
    study = open_study(place, ["maximize"])
    for path in place.file.parent.iterdir():
        path.unlink()
    with pytest.raises(UnetNasError, match="was deleted or replaced while the search ran"):
        place.check_file()
    backend_of(study).engine.dispose()
    with pytest.raises(UnetNasError, match="was deleted or replaced"), storage_errors(place):
        study.ask()


def test_a_heartbeat_is_there_from_the_beginning(place):
    study = open_study(place, ["maximize"])
    silent, alive = study.ask(), study.ask()
    with Heartbeat(backend_of(study), alive._trial_id):
        found = silences(study, [silent._trial_id, alive._trial_id])
    assert found[silent._trial_id] is None
    assert 0 <= found[alive._trial_id] < 5


def test_only_one_process_gets_a_candidate(place):
    study = open_study(place, ["maximize"])
    one, other = claims_of(study), claims_of(study)
    assert one.claim("a" * 64, 0)
    assert not other.claim("a" * 64, 1)
    assert other.taken("a" * 64)
    assert other.pass_on("a" * 64, 0, 2)
    assert not one.pass_on("a" * 64, 0, 3)
    one.release(2)
    assert claims_of(study).claim("a" * 64, 4)
    with sqlite3.connect(place.file) as connection:
        rows = connection.execute("SELECT trial_number FROM unet_nas_claims").fetchall()
    assert rows == [(4,)]
