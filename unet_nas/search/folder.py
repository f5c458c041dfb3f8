"""The folder of a run: its files, its header, and who may work in it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter

from unet_nas.errors import InputError
from unet_nas.files import write_files
from unet_nas.records.study import HEADER, RECORD, RunHeader, TrialFailure, TrialRecord

__all__ = ["CHECKPOINT", "Folder", "Tenancy", "slug"]

SPACE = "space.yaml"
CHECKPOINT = "checkpoint.safetensors"
"""Of a baseline or a finalist, until it has a record."""
_OWNER, _MEMBERS = ".run.lock", ".members.lock"
_RECORD_JSON = TypeAdapter(TrialRecord)
_HEADER_JSON = TypeAdapter(RunHeader)


@dataclass(frozen=True, slots=True)
class Tenancy:
    """How a process works in a folder.

    Attributes:
        owner: It keeps the header; of several that share a study, one does.
        alone: Nobody else worked there when it came.
    """

    owner: bool
    alone: bool


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a run.

    Args:
        path: where it lies.
    """

    path: Path

    def trial(self, number: int) -> Path:
        """Returns the folder of a trial."""
        return self.path / "trials" / f"{number:04}"

    def baseline(self, label: str) -> Path:
        """Returns the folder of a baseline."""
        return self.path / "baselines" / slug(label)

    def finalist(self, label: str, seed: int) -> Path:
        """Returns the folder of one training of a finalist."""
        return self.path / "finalists" / slug(label) / f"seed-{seed}"

    def read_header(self) -> RunHeader | None:
        """Returns the header; None where no run has begun.

        Raises:
            InputError: if it cannot be read.
        """
        path = self.path / HEADER
        try:
            return _HEADER_JSON.validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is no header of a run: give another --out") from error

    def write_header(self, header: RunHeader) -> None:
        """Writes the header anew."""
        text = _HEADER_JSON.dump_json(header, indent=1)
        write_files(self.path, {HEADER: text}, force=True)

    def write_record(self, folder: Path, record: TrialRecord, files: dict[str, bytes]) -> None:
        """Writes the files of a training, and then its record: with it they are whole."""
        if files:
            write_files(folder, files, force=True)
        text = _RECORD_JSON.dump_json(record, indent=1)
        write_files(folder, {RECORD: text}, force=True)

    def read_record(self, folder: Path) -> TrialRecord | None:
        """Returns the record of a training; None where it is not whole."""
        try:
            return _RECORD_JSON.validate_json((folder / RECORD).read_bytes())
        except (OSError, ValueError):
            return None

    def failure(self, number: int) -> TrialFailure | None:
        """Returns why a trial has failed; None where it has not, or its record is lost."""
        record = self.read_record(self.trial(number))
        return None if record is None else record.failure

    def records(self, part: str) -> list[TrialRecord]:
        """Returns the records of ``trials``, ``baselines`` or ``finalists``, in order."""
        depth = "*/*" if part == "finalists" else "*"
        folders = sorted(path.parent for path in (self.path / part).glob(f"{depth}/{RECORD}"))
        found = [self.read_record(folder) for folder in folders]
        return [record for record in found if record is not None]

    @contextmanager
    def occupied(self, *, join: bool) -> Iterator[Tenancy]:
        """Takes the folder for a run, which must exist.

        Raises:
            InputError: if another search runs there and ``join`` is not set.
        """
        with ExitStack() as stack:
            owner = stack.enter_context(self._open(_OWNER))
            owns = _lock(owner, fcntl.LOCK_EX)
            if not owns and not join:
                pid = (self.path / _OWNER).read_text(encoding="utf-8").strip() or "unknown"
                raise InputError(
                    f"another search runs in {self.path} (process {pid}): wait for it, give "
                    "another --out, or --join to work on the same study together"
                )
            if owns:
                owner.truncate(0)
                owner.write(f"{os.getpid()}\n")
                owner.flush()
            members = stack.enter_context(self._open(_MEMBERS))
            alone = _lock(members, fcntl.LOCK_EX)
            _lock(members, fcntl.LOCK_SH)
            yield Tenancy(owns, alone)

    @contextmanager
    def membership(self) -> Iterator[None]:
        """Shows that a process of a run lives, as long as it does."""
        with self._open(_MEMBERS) as members:
            fcntl.flock(members, fcntl.LOCK_SH)
            yield

    def _open(self, name: str) -> IO[str]:
        try:
            return (self.path / name).open("a", encoding="utf-8")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"cannot write to {self.path}: {reason}") from error


@contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Tells whether this process is the only one at work on a folder, for as long as it is.

    The lock goes with the process, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a", encoding="utf-8") as file:
        yield _lock(file, fcntl.LOCK_EX)


def _lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def slug(label: str) -> str:
    """Returns a name of a folder for a label.

    >>> slug("preset:unet-2015 at 500K"), slug("#12"), slug("../x")
    ('preset-unet-2015-at-500K', '12', 'x')
    """
    return re.sub(r"[^\w.-]+", "-", label).strip("-.") or "unnamed"
