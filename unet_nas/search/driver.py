"""The search as a whole: folder, header, trials, baselines, finalists; begun or gone on with."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unet_nas.audit.memory import Device
from unet_nas.errors import InputError
from unet_nas.files import write_files
from unet_nas.records.study import RunHeader, TrialRecord
from unet_nas.search.baselines import check_baselines, check_there
from unet_nas.search.config import is_accuracy
from unet_nas.search.evaluate import Job, now
from unet_nas.search.failures import failure_text, fruitless
from unet_nas.search.finalists import (
    baseline_jobs,
    default_train,
    finalist_jobs,
    run_jobs,
    shorter_note,
    waiting,
)
from unet_nas.search.folder import SPACE, Folder, Tenancy
from unet_nas.search.front import front
from unet_nas.search.header import check_data, importances, new_header
from unet_nas.search.load import Study, parse_identity
from unet_nas.search.progress import Board, Display
from unet_nas.search.recovery import Undertaker
from unet_nas.search.sampler import NothingLeftError
from unet_nas.search.seeding import enqueue
from unet_nas.search.storage import DATABASE, Place, storage_errors
from unet_nas.search.trials import TrialLoop, rebuilt
from unet_nas.search.workers import run_workers
from unet_nas.search.workplace import MakeEvaluator, Order, Workplace, make_trainer, open_workplace
from unet_nas.space.budget import limit_text
from unet_nas.space.survey import Survey, survey
from unet_nas.train.data.cases import Task
from unet_nas.train.metric_names import check_metrics

__all__ = ["Options", "Result", "search"]

SURVEYED = 1_000
"""Candidates judged for the header; `unet-nas space` judges more."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person gives beside the file.

    Attributes:
        out: The folder of the run.
        trials: In place of ``search.trials``.
        timeout_s: In place of ``search.timeout``.
        workers: In place of ``search.workers``.
        storage: URL of a database; None for SQLite in the folder.
        seed: Of everything drawn.
        device: Where it trains.
        join: Work on a study that another search works on.
        command: That repeats the run, as typed in a shell.
    """

    out: Path
    trials: int | None = None
    timeout_s: float | None = None
    workers: int | None = None
    storage: str | None = None
    seed: int = 0
    device: Device = "cpu"
    join: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a search has found.

    Attributes:
        folder: Of the run.
        header: As written at the end.
        front: Feasible trials that no other dominates, the most accurate first.
        trials: Results in all.
        finalists: Longer trainings of finalists and baselines, one for each seed.
        fruitless: Why no trial is complete, if none is.
    """

    folder: Path
    header: RunHeader
    front: tuple[TrialRecord, ...]
    trials: int
    finalists: tuple[TrialRecord, ...] = ()
    fruitless: str | None = None


DescribeSurvey = Callable[[Survey], dict[str, Any]]


def search(
    study: Study,
    options: Options,
    *,
    make: MakeEvaluator = make_trainer,
    display: Display | None = None,
    describe: DescribeSurvey | None = None,
) -> Result:
    """Searches a space, or goes on with a search that was stopped.

    Args:
        study: what the file asks for.
        options: what was given beside it.
        make: makes whoever trains.
        display: shows the progress; default: on standard error.
        describe: makes plain data of the survey, for the header.

    Raises:
        InputError: if the file, the data, an option or the folder is at fault.
        UnetNasError: if the storage fails, or every trial does.
        KeyboardInterrupt: if a person stops it; everything whole stays.
    """
    folder = Folder(options.out)
    _check_folder(folder, study, options)
    new = not folder.path.exists()
    write_files(folder.path, {}, force=True)
    try:
        with folder.occupied(join=options.join) as tenancy, display or Display() as shown:
            run = _Run(study, options, tenancy=tenancy, display=shown, make=make, describe=describe)
            with storage_errors(Place.of(folder.path, options.storage, study.name)):
                return run.whole()
    except InputError:
        # a mistake that the data showed leaves no folder behind in which nothing was begun
        if new and not options.join and folder.read_header() is None:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def _check_folder(folder: Folder, study: Study, options: Options) -> None:
    """Refuses a file, and a folder whose run is about something else, or has lost its database.

    Raises:
        InputError: if it does.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"--out must be a folder, and {folder.path} is a file: give another --out")
    header = folder.read_header()
    if header is None:
        return
    old = parse_identity(header.file)
    changed = [name for name, value in study.identity.items() if old[name] != value]
    if changed:
        other = f"another section {changed[0]}:"
        if len(changed) > 1:
            other = f"other sections: {', '.join(changed)};"
        raise InputError(
            f"{folder.path} holds a run with {other} give another --out, or the file as it was"
        )
    if header.seed != options.seed and not options.join:
        raise InputError(
            f"{folder.path} holds a run with --seed {header.seed}: give that, or another --out; "
            "one run has one seed"
        )
    has_trials = any(folder.path.glob("trials/*/record.json"))
    if options.storage is None and has_trials and not (folder.path / DATABASE).exists():
        raise InputError(
            f"{folder.path / DATABASE} is gone, and without it the search cannot go on; the "
            "records beside it are whole: give another --out"
        )


def _check_objectives(names: Sequence[str], task: Task) -> None:
    """Refuses accuracies that the data do not define: the classes are known only with them.

    Raises:
        InputError: if there is one.
    """
    try:
        check_metrics([name for name in names if is_accuracy(name)], task)
    except InputError as error:
        raise InputError(f"objectives: {error}") from error


class _Run:
    """One call of `search`."""

    def __init__(
        self,
        study: Study,
        options: Options,
        *,
        tenancy: Tenancy,
        display: Display,
        make: MakeEvaluator,
        describe: DescribeSurvey | None,
    ) -> None:
        self.study, self.options, self.tenancy = study, options, tenancy
        self.display, self.make, self.describe = display, make, describe
        self.folder = Folder(options.out)
        self.notes: dict[str, None] = {}
        self.header = RunHeader(study.name)

    # --- the whole ---------------------------------------------------------------------------

    def whole(self) -> Result:
        """Runs all phases; a stop is noted in the header."""
        order = self._order()
        Place.of(order.out, order.storage, order.name).check_workers(order.workers)
        named = [baseline.network for baseline in self.study.sections.baselines]
        check_there([*named, *self.study.search.enqueue], base=self.study.base)
        self.display.doing("loading the data")
        evaluator = self.make(self.study, order.device, order.seed)
        self.study = self.study.bound_to(evaluator.task)
        _check_objectives(self.study.sections.objectives, evaluator.task)
        place = open_workplace(order, evaluator=evaluator)
        self._begin(place)
        try:
            self._trials(place)
            self._match_records(place)
            self._afterwards(place, baseline_jobs(place))
            self._afterwards(place, finalist_jobs(place))
        except BaseException:
            self._write("interrupted")
            raise
        return self._end(place)

    def _order(self) -> Order:
        options, config = self.options, self.study.search
        timeout = options.timeout_s if options.timeout_s is not None else config.timeout
        return Order(
            text=self.study.text,
            name=self.study.name,
            base=self.study.base,
            out=options.out,
            storage=options.storage,
            seed=options.seed,
            device=options.device,
            workers=options.workers or config.workers,
            wanted=options.trials or config.trials,
            deadline=None if timeout is None else time.time() + timeout,
            make=self.make,
        )

    # --- before the trials ---------------------------------------------------------------------

    def _begin(self, place: Workplace) -> None:
        train = default_train(place)
        check_baselines(
            self.study.sections.baselines, place.evaluator.task, train, base=self.study.base
        )
        known = self.folder.read_header()
        if known:
            check_data(known.data, place.evaluator.summary, self.folder.path)
        self._note(*place.evaluator.notes, *(known.notes if known else ()))
        space = known.space if known else self._survey(place)
        self.header = new_header(place, train=train, command=self.options.command, space=space)
        if known:
            self.header = replace(self.header, started=known.started)
        if self.tenancy.owner:
            write_files(self.folder.path, {SPACE: self._space_file()}, force=True)
        self._write("running")
        alone = self.tenancy.alone and self.options.storage is None
        found = self._undertaker(place).sweep(alone=alone)
        if found:
            taken = "trial is" if found == 1 else "trials are"
            self.display.say(f"{found} interrupted {taken} taken up again")
        self._match_records(place)
        shorter = shorter_note(self.study.search.finalists, train)
        self._note(*enqueue(place), *([shorter] if shorter else []))

    def _undertaker(self, place: Workplace) -> Undertaker:
        return Undertaker(place.optuna, place.claims, self.folder)

    def _match_records(self, place: Workplace) -> None:
        """Makes lost records again, and removes those of trials that do not count."""
        for trial in self._undertaker(place).missing_records():
            job, record = rebuilt(place, trial)
            self.folder.write_record(job.folder, record, {})
            self._note(f"the record of trial {trial.number} was lost, and made from the study")

    def _survey(self, place: Workplace) -> dict[str, Any]:
        """Surveys the space, and refuses one in which nothing is feasible."""
        self.display.doing("surveying the space")
        found = self._surveyed(place)
        if found.feasible.count == 0 and found.scope.exhaustive:
            raise InputError(f"no candidate is feasible: {_remedy(found)}")
        return self.describe(found) if self.describe else {}

    def _surveyed(self, place: Workplace) -> Survey:
        space, device = place.study.space, place.order.device
        return survey(space, samples=SURVEYED, seed=self.options.seed, device=device)

    def _space_file(self) -> bytes:
        """Returns the file as it was read, or, with ``--set``, as it is meant."""
        source = Path(self.study.source)
        if self.study.assignments or "\n" in self.study.source or not source.is_file():
            return self.study.text.encode()
        return source.read_bytes()

    # --- phases --------------------------------------------------------------------------------

    def _trials(self, place: Workplace) -> None:
        board = Board(place.study.objectives, place.order.wanted, failure_of=self.folder.failure)
        board.read(place.optuna)
        self.display.show(board, [])

        def look() -> None:
            self.display.show(board, board.read(place.optuna))

        if board.done >= board.wanted:
            return
        if place.order.workers > 1:
            ending = run_workers(place.order, None, self._undertaker(place), look, self._death)
            look()
        else:
            loop = TrialLoop(place, lambda record: look())
            ending = loop.run()
            if loop.nothing_left is not None:
                self._nothing_left(place, board, loop.nothing_left)
        if ending == "nothing_left":
            self._note(
                f"the search ended after {board.done} trials: no further candidate was found"
            )
        elif ending == "timeout":
            self._note(f"the time was up after {board.done} of {board.wanted} trials")

    def _nothing_left(self, place: Workplace, board: Board, error: NothingLeftError) -> None:
        """Says which limit rejects, if nothing has ever been feasible."""
        if board.done == 0:
            found = self._surveyed(place)
            if error.certain:
                raise InputError(f"no candidate is feasible ({error}): {_remedy(found)}") from error
            raise InputError(
                f"{error}: if any candidate is, such ones are rare; narrow the domains, or "
                f"{_remedy(found)}"
            ) from error
        self._note(str(error))

    def _death(self, message: str) -> None:
        self.display.say(message)
        self._note(message)

    def _afterwards(self, place: Workplace, jobs: list[Job]) -> None:
        """Trains what comes after the trials."""
        left = list(waiting(place, jobs))
        if not left:
            return
        kind = "longer training" if left[0].kind == "finalist" else "baseline"
        self.display.doing(f"{kind}s to do: {len(left)}")
        ended: set[Path] = set()

        def look() -> None:
            for job in left:
                record = None if job.folder in ended else self.folder.read_record(job.folder)
                if record is not None:
                    ended.add(job.folder)
                    self.display.doing(f"{kind} {len(ended)} of {len(left)}: {_scores(record)}")

        if place.order.workers > 1 and len(left) > 1:
            order = replace(place.order, workers=min(place.order.workers, len(left)))
            run_workers(order, left, self._undertaker(place), look, self._death)
        for _ in run_jobs(place, left):
            look()

    # --- the header ----------------------------------------------------------------------------

    def _note(self, *sentences: str) -> None:
        self.notes.update(dict.fromkeys(sentences))

    def _write(self, state: str) -> None:
        if not self.tenancy.owner:
            return
        self.header = replace(self.header, notes=tuple(self.notes), state=state)  # type: ignore[arg-type]
        self.folder.write_header(self.header)

    def _end(self, place: Workplace) -> Result:
        records = self.folder.records("trials")
        found = importances(place.optuna, place.study.objectives)
        self.header = replace(self.header, importances=found, finished=now())
        self._write("complete")
        members = front(records, place.study.objectives)
        return Result(
            self.folder.path,
            self.header,
            tuple(members),
            len(records),
            finalists=tuple(self.folder.records("finalists")),
            fruitless=fruitless(records),
        )


def _scores(record: TrialRecord) -> str:
    """Says in a line what came of a training after the trials."""
    scores = [f"{name} {value:.4f}" for name, value in record.metrics.items() if "[" not in name]
    if scores:
        return f"{record.name}, seed {record.seed}: validation {', '.join(scores)}"
    said = failure_text(record.failure) if record.failure else record.state
    return f"{record.name}, seed {record.seed}: {said}"


def _remedy(found: Survey) -> str:
    """Says what to change so that something is feasible."""
    if found.relaxations:
        nearest = found.relaxations[0]
        limits = [f"budget.{name} to {limit_text(name, v)}" for name, v in nearest.limits.items()]
        return f"relax {' and '.join(limits)} ({nearest.factor:.3g} times as much)"
    if found.remedies:
        best = found.remedies[0]
        return f"set {best.path} to {best.value}"
    reasons: Sequence[Any] = found.reasons
    return (
        f"the most frequent reason is: {reasons[0].reason.text}"
        if reasons
        else "the space is empty"
    )
