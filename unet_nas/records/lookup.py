"""Finding a run, and one network of it, by what a person types: ``STUDY#TRIAL``."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from unet_nas.errors import InputError
from unet_nas.records.study import ARCHITECTURE, HEADER, Run, TrialRecord, read_run

REPORTS = Path("reports")
"""Where runs lie that are called by their name."""

BEST = "best"


def names_trial(text: str) -> bool:
    """Tells whether a text means ``STUDY#TRIAL`` and not a file.

    >>> names_trial("quickstart#12"), names_trial("preset:unet-2015")
    (True, False)
    """
    return "#" in text and not Path(text).exists()


def find_trial(text: str) -> tuple[Run, TrialRecord]:
    """Returns the run and the record that ``STUDY#TRIAL`` means.

    STUDY is the folder of a run, or the name of one under ``reports/``. TRIAL is the number of a
    trial, ``best`` (of the first objective), the name of a baseline, or ``NAME/seed-0`` of a
    finalist, whose name is that of the trial or baseline that was retrained.

    Raises:
        InputError: if there is no such run, or no such network in it.
    """
    study, _, name = text.partition("#")
    run = read_run(_folder(study))
    if name == BEST:
        return run, best_trial(run)
    found = {label: record for record in _records(run) for label in _labels(run, record)}
    if name in found:
        return run, found[name]
    raise InputError(f"{text}: {_offer(run, name, list(found))}")


def architecture_file(text: str) -> Path:
    """Returns the architecture file of ``STUDY#TRIAL``.

    Raises:
        InputError: if there is no such network, or it is one of Python code.
    """
    run, record = find_trial(text)
    if record.network != "architecture":
        raise InputError(f"{text} is a network of Python code ({record.network})")
    return run.files_of(record) / ARCHITECTURE


def run_above(folder: Path) -> Path | None:
    """Returns the folder of the run that a folder lies in, if it lies in one."""
    return next((above for above in folder.resolve().parents if (above / HEADER).exists()), None)


def best_trial(run: Run) -> TrialRecord:
    """Returns the feasible trial with the best value of the first objective.

    Raises:
        InputError: if there is none.
    """
    if not run.header.objectives:
        raise InputError(f"{run.folder} has no objective that could say which trial is best")
    objective = run.header.objectives[0]
    sign = -1 if objective.direction == "minimize" else 1
    scored = [t for t in run.trials if t.feasible and objective.name in t.objectives]
    if not scored:
        raise InputError(f"{run.folder} has no complete trial within its budget")
    return max(scored, key=lambda trial: sign * trial.objectives[objective.name])


def _folder(study: str) -> Path:
    """Returns the folder of a run.

    Raises:
        InputError: if there is none.
    """
    found = named_folder(study)
    if found is not None:
        return found
    known = sorted(path.parent.name for path in REPORTS.glob(f"*/{HEADER}"))
    there = f"; there are {', '.join(known)}" if known else ""
    places = " and ".join(map(str, _places(study)))
    raise InputError(f"no run is called {study!r}: {places} are none{there}")


def named_folder(study: str) -> Path | None:
    """Returns the folder of a run: it itself, or one under ``reports/`` by its name."""
    there = (place for place in _places(study) if study and (place / HEADER).is_file())
    return next(there, None)


def _places(study: str) -> list[Path]:
    return [Path(study), REPORTS / study]


def _records(run: Run) -> Iterator[TrialRecord]:
    yield from run.trials
    yield from run.baselines
    yield from run.finalists


def _labels(run: Run, record: TrialRecord) -> tuple[str, ...]:
    """Returns what a record can be called, the plainest first."""
    names = (record.name.removeprefix("#"), record.name, run.files_of(record).name)
    if record.kind != "finalist":
        return names
    group = run.files_of(record).parent.name
    return tuple(f"{name}/seed-{record.seed}" for name in (*names[:2], group))


def _offer(run: Run, name: str, labels: list[str]) -> str:
    """Returns what is there instead of a name."""
    plain = [_labels(run, record)[0] for record in _records(run)]
    near = get_close_matches(name, labels, 1)
    numbers = [label for label in plain if label.isdecimal()]
    others = [label for label in plain if not label.isdecimal()]
    shown = (
        f"trials {', '.join(numbers[:20])}{' …' if len(numbers) > 20 else ''}" if numbers else ""
    )
    there = "; ".join(filter(None, (shown, ", ".join(others))))
    question = f"; did you mean {near[0]}?" if near else ""
    return f"there is no trial {name!r}; the run has {there or 'none yet'}{question}"
