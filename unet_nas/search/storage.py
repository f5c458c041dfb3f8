"""The study's storage: Optuna's RDBStorage, on SQLite in the run's folder or at any URL.

SQLite runs with a write-ahead log (readers and one writer at once) and waits up to a minute for
its lock. With ``synchronous=NORMAL`` a commit survives every crash of a process; the last ones
before a power failure may be lost, the file stays sound.
"""

from __future__ import annotations

import fcntl
import re
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.study import Study as OptunaStudy
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from unet_nas.errors import InputError, UnetNasError
from unet_nas.records.study import Direction

__all__ = [
    "HEARTBEAT_S",
    "Heartbeat",
    "Place",
    "open_study",
    "storage_errors",
]

DATABASE = "study.db"
STUDY_NAME = "unet_nas"
BUSY_TIMEOUT_S = 60
MOST_SQLITE_WORKERS = 4
HEARTBEAT_S = 5.0
"""A running trial shows that its process lives every so many seconds."""
GRACE_S = 60.0
"""A running trial that has been silent for so long is taken for dead."""
#: how often, and after how long, a server is asked again while others make the tables
_TRIES, _PAUSE_S = 20, 0.25

#: file systems of other machines, where SQLite's locks do not hold
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "lustre", "beegfs", "ceph"}
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a study lies.

    Attributes:
        url: As SQLAlchemy takes it.
        file: The file of SQLite; None for a server.
        name: Of the study in the database.
    """

    url: str
    file: Path | None
    name: str = STUDY_NAME

    @staticmethod
    def of(folder: Path, storage: str | None, name: str) -> Place:
        """Returns the place that ``--storage`` names, or the folder's own.

        Studies at one URL are told apart by name and folder.

        Raises:
            InputError: if the folder's own lies on another machine.
        """
        if storage is not None:
            return Place(storage, _file_of(storage), f"{name} ({folder.name})")
        kind = network_kind(folder)
        if kind is not None:
            raise InputError(
                f"{folder} lies on a network file system ({kind}), where SQLite loses data; give "
                "--out on a local disk, or --storage with the URL of a database server"
            )
        file = folder.resolve() / DATABASE
        return Place(f"sqlite:///{file}", file)

    def check_file(self) -> None:
        """Tells if somebody has deleted the file: SQLite would write on into nothing.

        Raises:
            UnetNasError: if it is gone.
        """
        if self.file is not None and not self.file.exists():
            raise _gone(self.file, self)

    def check_workers(self, workers: int) -> None:
        """Refuses more processes than SQLite serves.

        Raises:
            InputError: if there are more.
        """
        if self.url.startswith("sqlite") and workers > MOST_SQLITE_WORKERS:
            raise InputError(
                f"SQLite serves at most {MOST_SQLITE_WORKERS} workers, got {workers}; give "
                "--storage with the URL of a database server for more"
            )


def _file_of(url: str) -> Path | None:
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError as error:
        raise InputError(
            f"--storage must be a URL as postgresql://user@host/name or sqlite:///FILE, got {url!r}"
        ) from error
    if not parsed.drivername.startswith("sqlite"):
        return None
    if not parsed.database or parsed.database == ":memory:":
        raise InputError("--storage needs a database that outlives the process: sqlite:///FILE")
    return Path(parsed.database)


def network_kind(folder: Path) -> str | None:
    """Returns the kind of network file system that a folder lies on; None on a local disk."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return mount_kind(folder.resolve(), lines)


def mount_kind(folder: Path, mounts: Sequence[str]) -> str | None:
    """Returns the kind of the mount of a folder, if it is one of a network.

    >>> mounts = ["/dev/sda1 / ext4 rw", "server:/home /home nfs4 rw"]
    >>> mount_kind(Path("/home/me/run"), mounts), mount_kind(Path("/tmp"), mounts)
    ('nfs4', None)
    """
    best, found = -1, None
    for line in mounts:
        fields = line.split()
        if len(fields) > 2 and folder.is_relative_to(fields[1]) and len(fields[1]) >= best:
            best, found = len(fields[1]), fields[2]
    return found if found in _NETWORK else None


def open_study(place: Place, directions: Sequence[Direction]) -> OptunaStudy:
    """Returns the study at a place, made if it is not there.

    Raises:
        InputError: if the database cannot be opened, or is another one's.
        UnetNasError: if it fails.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if place.file is not None and not place.file.parent.is_dir():
        raise InputError(
            f"--storage {place.url}: there is no folder {place.file.parent}: make it, or give "
            "another --storage"
        )
    with storage_errors(place, opening=True), _alone(place.file):
        return optuna.create_study(
            storage=_rdb(place),
            study_name=place.name,
            directions=list(directions),
            load_if_exists=True,
        )


@contextmanager
def _alone(file: Path | None) -> Iterator[None]:
    """Lets one process at a time make the tables: two at once fail over each other's."""
    if file is None:
        yield
        return
    lock = file.with_name(f".{file.name}.lock")
    try:
        opened = lock.open("a", encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot write to {file}: {reason}") from error
    with opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _rdb(place: Place) -> RDBStorage:
    if place.file is None:
        return _on_server(place)
    # table creation connects, so the pragmas come after it; the log's mode stays with the file
    _set_wal(place)
    storage = RDBStorage(place.url, engine_kwargs={"connect_args": {"timeout": BUSY_TIMEOUT_S}})
    event.listen(storage.engine, "connect", _pragmas)
    storage.engine.dispose()
    return storage


def _on_server(place: Place) -> RDBStorage:
    """Opens a study on a server, where others may be making the tables just now."""
    for _ in range(_TRIES):
        try:
            return RDBStorage(place.url, engine_kwargs={"pool_pre_ping": True})
        except (DBAPIError, optuna.exceptions.StorageInternalError) as error:
            if not re.search("already exists|duplicate", str(error.__cause__ or error), re.I):
                raise
            time.sleep(_PAUSE_S)
    return RDBStorage(place.url, engine_kwargs={"pool_pre_ping": True})


def _set_wal(place: Place) -> None:
    engine = sqlalchemy.create_engine(place.url, connect_args={"timeout": BUSY_TIMEOUT_S})
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    engine.dispose()


def _pragmas(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA busy_timeout={1000 * BUSY_TIMEOUT_S}")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


# --- what goes wrong with databases -------------------------------------------------------------


@contextmanager
def storage_errors(place: Place, *, opening: bool = False) -> Iterator[None]:
    """Turns what a database raises into one sentence.

    Args:
        place: where the study lies.
        opening: it need not have been there before, so that a missing file was not deleted.

    Raises:
        InputError: if it cannot be reached or written to.
        UnetNasError: if it fails on the way.
    """
    where = place.file or _without_password(place.url)
    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        raise InputError(f"--storage {where}: its driver is not installed ({error})") from error
    except optuna.exceptions.StorageInternalError as error:
        raise _sentence(where, place, error.__cause__ or error, opening) from error
    except DBAPIError as error:
        raise _sentence(where, place, error, opening) from error
    except RuntimeError as error:
        if "runtime optuna version" in str(error).lower():
            raise InputError(f"{where} was written by another version of Optuna") from error
        raise
    except KeyError as error:
        if "Record does not exist" in str(error):
            raise _gone(where, place) from error
        raise


def _sentence(where: object, place: Place, error: BaseException, opening: bool) -> UnetNasError:
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    missing = place.file is not None and not (opening or place.file.exists())
    if missing or (place.file is not None and "no such table" in said):
        return _gone(where, place)
    if "unable to open" in said or "readonly" in said:
        return InputError(f"cannot write to {where}: {said}")
    if "not a database" in said:
        return InputError(f"{where} is not a database of SQLite, or is damaged")
    if "disk is full" in said:
        return UnetNasError(f"cannot write to {where}: no space left; the same command goes on")
    if "locked" in said:
        return UnetNasError(
            f"{where} was locked for {BUSY_TIMEOUT_S} s by another program; "
            "the same command goes on"
        )
    return UnetNasError(f"the database {where} failed: {said}; the same command goes on")


def _gone(where: object, place: Place) -> UnetNasError:
    what = "was deleted or replaced" if place.file is not None else "has lost the study"
    return UnetNasError(
        f"{where} {what} while the search ran; the records beside it are whole, and a new search "
        "needs another --out"
    )


def _without_password(url: str) -> str:
    return sqlalchemy.make_url(url).render_as_string(hide_password=True)


# --- signs of life ---------------------------------------------------------------------------


class Heartbeat:
    """Shows that the process of a running trial lives, from right after ask until told.

    The beats have a thread of their own: no training step is waited for. A beat that fails is
    left out, for the trial itself meets the same trouble and says so.
    """

    def __init__(self, storage: RDBStorage | None, trial_id: int) -> None:
        self._storage, self._trial_id = storage, trial_id
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        if self._storage is not None:
            self._storage.record_heartbeat(self._trial_id)
            self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        if self._storage is not None:
            self._thread.join()

    def _beat(self) -> None:
        assert self._storage is not None
        while not self._done.wait(HEARTBEAT_S):
            try:
                self._storage.record_heartbeat(self._trial_id)
            except Exception:  # a beat is no place to report trouble from
                time.sleep(1)


def backend_of(study: OptunaStudy) -> RDBStorage | None:
    """Returns the database of a study; None for one in memory."""
    storage = study._storage
    backend = getattr(storage, "_backend", storage)
    return backend if isinstance(backend, RDBStorage) else None


def silences(study: OptunaStudy, trial_ids: Sequence[int]) -> dict[int, float | None]:
    """Returns for running trials how many seconds ago they last showed life; None for never.

    Both times are the database's own, so that clocks of machines do not matter.
    """
    backend = backend_of(study)
    if backend is None or not trial_ids:
        return dict.fromkeys(trial_ids)
    beats = sqlalchemy.table(
        "trial_heartbeats",
        sqlalchemy.column("trial_id", sqlalchemy.Integer),
        sqlalchemy.column("heartbeat", sqlalchemy.DateTime),
    )
    now = sqlalchemy.func.now()
    query = sqlalchemy.select(beats.c.trial_id, beats.c.heartbeat, now).where(
        beats.c.trial_id.in_(trial_ids)
    )
    silent: dict[int, float | None] = dict.fromkeys(trial_ids)
    with backend.engine.connect() as connection:
        for trial_id, beat, current in connection.execute(query):
            age = current.replace(tzinfo=None) - beat.replace(tzinfo=None)
            silent[trial_id] = age.total_seconds()
    return silent


def quiet_warnings() -> warnings.catch_warnings[None]:
    """Returns a context without the warnings that Optuna gives of its experimental parts."""
    return warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning)
