"""Claims: which candidate belongs to which trial, so that no two trials train the same network.

Optuna has nothing that only one of several workers can do. A table of our own beside its own
has: the digest of a candidate is its primary key, so whoever inserts it first owns it, on every
database. Trials that were interrupted hand their claim on to the trial that takes their place.
"""

from __future__ import annotations

from typing import Protocol

from optuna.study import Study as OptunaStudy
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from unet_nas.search.storage import backend_of

__all__ = ["Claims", "DatabaseClaims", "MemoryClaims", "claims_of"]


class Claims(Protocol):
    """Who owns which candidate."""

    def taken(self, digest: str) -> bool:
        """Tells whether a candidate is known to be somebody's."""

    def claim(self, digest: str, number: int) -> bool:
        """Makes a candidate the trial's; False if it is another's."""

    def pass_on(self, digest: str, old: int, new: int) -> bool:
        """Makes a candidate of an interrupted trial another trial's; False if it was not its."""

    def release(self, number: int) -> None:
        """Gives up what a trial has claimed."""


class MemoryClaims:
    """Claims of one process.

    >>> claims = MemoryClaims()
    >>> claims.claim("a", 0), claims.claim("a", 1), claims.pass_on("a", 0, 2)
    (True, False, True)
    """

    def __init__(self) -> None:
        self._owners: dict[str, int] = {}

    def taken(self, digest: str) -> bool:
        """Tells whether a candidate is somebody's."""
        return digest in self._owners

    def claim(self, digest: str, number: int) -> bool:
        """Makes a candidate the trial's."""
        return self._owners.setdefault(digest, number) == number

    def pass_on(self, digest: str, old: int, new: int) -> bool:
        """Makes a candidate of an interrupted trial another trial's."""
        if self._owners.get(digest, old) != old:
            return False
        self._owners[digest] = new
        return True

    def release(self, number: int) -> None:
        """Gives up what a trial has claimed."""
        self._owners = {d: owner for d, owner in self._owners.items() if owner != number}


_TABLE = Table(
    "unet_nas_claims",
    MetaData(),
    Column("study_id", Integer, primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("trial_number", Integer, nullable=False),
)


class DatabaseClaims:
    """Claims of all processes that work on a study in a database."""

    def __init__(self, engine: Engine, study_id: int) -> None:
        self._engine, self._study_id = engine, study_id
        with engine.begin() as connection:
            connection.execute(CreateTable(_TABLE, if_not_exists=True))
        mine = select(_TABLE.c.digest).where(_TABLE.c.study_id == study_id)
        with engine.connect() as connection:
            # what other workers claim later is found when it is claimed again
            self._known = set(connection.execute(mine).scalars())

    def taken(self, digest: str) -> bool:
        """Tells whether a candidate is known to be somebody's."""
        return digest in self._known

    def claim(self, digest: str, number: int) -> bool:
        """Makes a candidate the trial's; False if it is another's."""
        self._known.add(digest)
        row = {"study_id": self._study_id, "digest": digest, "trial_number": number}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_TABLE).values(row))
        except IntegrityError:
            return False
        return True

    def pass_on(self, digest: str, old: int, new: int) -> bool:
        """Makes a candidate of an interrupted trial another trial's; False if it was not its."""
        change = (
            update(_TABLE)
            .where(_TABLE.c.study_id == self._study_id, _TABLE.c.digest == digest)
            .where(_TABLE.c.trial_number == old)
            .values(trial_number=new)
        )
        with self._engine.begin() as connection:
            moved = connection.execute(change).rowcount == 1
        return moved or self.claim(digest, new)

    def release(self, number: int) -> None:
        """Gives up what a trial has claimed."""
        where = (_TABLE.c.study_id == self._study_id, _TABLE.c.trial_number == number)
        with self._engine.begin() as connection:
            gone = set(connection.execute(select(_TABLE.c.digest).where(*where)).scalars())
            connection.execute(delete(_TABLE).where(*where))
        self._known -= gone


def claims_of(study: OptunaStudy) -> Claims:
    """Returns the claims on candidates of a study."""
    backend = backend_of(study)
    if backend is None:
        return MemoryClaims()
    return DatabaseClaims(backend.engine, study._study_id)
