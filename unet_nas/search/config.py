"""The sections ``search``, ``objectives`` and ``baselines`` (imports no torch, no optuna)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    model_validator,
)
from pydantic_core import PydanticCustomError

from unet_nas.errors import Fault
from unet_nas.operators.fields import Flag, Options
from unet_nas.records.study import ObjectiveSpec
from unet_nas.space.budget import Count, Seconds
from unet_nas.text.sentences import did_you_mean
from unet_nas.text.validation import faults_error
from unet_nas.train.metric_names import ACCURACY, accuracy, base_name
from unet_nas.units import format_count

__all__ = [
    "COSTS",
    "Baseline",
    "Finalists",
    "SearchConfig",
    "Sections",
    "objective_of",
]

COSTS: dict[str, str] = {
    "parameters": "",
    "macs": "MACs",
    "training_memory": "bytes",
    "inference_memory": "bytes",
    "latency": "ms",
}
"""The costs that may be objectives, all minimised, and their units."""

SAMPLERS = ("random", "tpe", "nsga2", "grid")
PRUNERS = ("none", "median", "hyperband")
LEAST_SEEDS = 3
TOURNAMENT = 5

_Number = Annotated[int, Strict(), Field(ge=1, le=10**9)]
_CountOrZero = Annotated[int, Strict(), Field(ge=0, le=10**6)]
_Positive = Annotated[float, Field(gt=0)]


# --- samplers and pruners -----------------------------------------------------------------


class Choice(BaseModel):
    """A sampler or a pruner: its name here or its class in Optuna, and arguments of the class."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    type: str = Field(description="a short name, or the name of a class of Optuna")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as written."""
        return dict(self.model_extra or {})


def _as_type(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _known(names: tuple[str, ...], what: str, suffix: str) -> AfterValidator:
    """Refuses a name that is neither a short one nor looks like a class of Optuna."""

    def check(choice: Choice) -> Choice:
        if choice.type in names or choice.type.endswith(suffix):
            return choice
        fix = did_you_mean(choice.type, names) or f"write {names[0]}"
        rule = f"must be {', '.join(names)}, or the name of a {what} class of Optuna"
        fault = Fault(("type",), rule, repr(choice.type), fix)
        raise faults_error([fault], rule)

    return AfterValidator(check)


Sampler: TypeAlias = Annotated[
    Choice, BeforeValidator(_as_type), _known(SAMPLERS, "sampler", "Sampler")
]
Pruner: TypeAlias = Annotated[
    Choice, BeforeValidator(_as_type), _known(PRUNERS, "pruner", "Pruner")
]


# --- the section search ---------------------------------------------------------------------


class Finalists(Options):
    """What is retrained for longer once the trials are over, with the baselines."""

    count: _CountOrZero | None = Field(
        3, description="the best, or so many members of the front; null: the whole front; 0: none"
    )
    seeds: Annotated[int, Strict(), Field(ge=1, le=100)] = Field(
        LEAST_SEEDS, description="trainings of each, with other weights and patches"
    )
    factor: _Positive | None = Field(
        None, description="times as long as a trial; 5 where nothing else is given"
    )
    steps: _Number | None = Field(None, description="in place of factor")
    epochs: _Positive | None = Field(None, description="in place of factor")
    seconds: Seconds | None = Field(None, description="in place of factor")

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [n for n in ("factor", "steps", "epochs", "seconds") if getattr(self, n)]
        if len(given) > 1:
            rule = f"must stand alone: {' and '.join(given)} are given"
            fault = Fault((given[1],), rule, fix=f"remove {given[1]}")
            raise faults_error([fault], rule)
        return self

    def budget(
        self, kind: Literal["steps", "epochs", "seconds"], amount: float
    ) -> dict[str, float | None]:
        """Returns what ends the longer training, in place of what ends a trial.

        >>> Finalists(factor=4).budget("steps", 100)
        {'steps': 400, 'epochs': None, 'seconds': None}
        """
        for name in ("steps", "epochs", "seconds"):
            if getattr(self, name) is not None:
                kind, amount = name, getattr(self, name)
                break
        else:
            amount *= self.factor or 5.0
        whole = round(amount) if kind == "steps" else amount
        return {name: whole if name == kind else None for name in ("steps", "epochs", "seconds")}


def _as_count(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"count": value}
    return value


class SearchConfig(Options):
    """How the space is searched."""

    sampler: Sampler = Field(
        Choice.model_construct(type="tpe"),
        description="random, tpe, nsga2, grid (every candidate once), or {type: a sampler of "
        "Optuna, with its arguments}",
    )
    trials: _Number = Field(50, description="networks to train")
    timeout: Seconds | None = Field(
        None, description="no trial begins after this time, as 2h; baselines and finalists follow"
    )
    workers: Annotated[int, Strict(), Field(ge=1, le=1024)] = Field(
        1, description="processes; at most 4 on SQLite"
    )
    enqueue: tuple[str, ...] = Field(
        (), description="architectures to begin with: preset:NAME or files; the nearest candidates"
    )
    pruner: Pruner = Field(
        Choice.model_construct(type="none"),
        description="none, median, hyperband, or {type: a pruner of Optuna, with its arguments}; "
        "for one objective that is an accuracy",
    )
    tournament: _Number | None = Field(
        None,
        description="feasible draws for one trial, of which the one with the most MACs is trained; "
        f"{TOURNAMENT} for tpe where an accuracy is the only objective, else 1",
    )
    redraws: _CountOrZero = Field(
        100, description="draws of the sampler for one trial before a uniform one takes its place"
    )
    uniform_draws: _Number = Field(
        20_000, description="uniform draws for one trial before the search ends for want of one"
    )
    finalists: Annotated[Finalists, BeforeValidator(_as_count)] = Field(
        Finalists.model_construct(), description="a number, or a mapping; 0: none"
    )
    measure: Flag = Field(
        True, description="measure the latency in every trial, also where nothing asks for it"
    )


# --- objectives -----------------------------------------------------------------------------


def objective_of(name: str) -> ObjectiveSpec:
    """Returns an objective with its direction and unit.

    Raises:
        InputError: if there is no such metric or cost.

    >>> objective_of("macs"), objective_of("dice").direction
    (ObjectiveSpec(name='macs', direction='minimize', unit='MACs'), 'maximize')
    """
    if name in COSTS:
        return ObjectiveSpec(name, "minimize", COSTS[name])
    found = accuracy(name)
    return ObjectiveSpec(name, found.direction, found.unit)


def is_accuracy(name: str) -> bool:
    """Tells whether an objective is measured on the validation cases."""
    return base_name(name) in ACCURACY


def _known_objective(name: str) -> str:
    known = (*ACCURACY, *COSTS)
    if name not in COSTS and not is_accuracy(name):
        fix = _list_meant(name) or did_you_mean(name, known)
        hint = f"; {fix}" if fix else ""
        raise PydanticCustomError(
            "objective",
            "must be one of {known}, got {name}{hint}",
            {"known": ", ".join(known), "name": repr(name), "hint": hint},
        )
    return name


def _list_meant(text: str) -> str | None:
    """Tells how several objectives are written, where a text names them with commas between."""
    names = [name.strip() for name in text.split(",")]
    known = all(name in COSTS or is_accuracy(name) for name in names)
    whole = known and 2 <= len(names) == len(set(names)) <= 3
    return f"fix: write [{', '.join(names)}]" if whole else None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Objective: TypeAlias = Annotated[str, AfterValidator(_known_objective)]


# --- baselines --------------------------------------------------------------------------------


class Baseline(Options):
    """A network that is trained under the same rules, to be compared with."""

    network: str = Field(description="preset:NAME, an architecture file, or python:module:factory")
    name: str | None = Field(None, description="in tables and figures; null: made of the network")
    set: tuple[str, ...] = Field((), description="path=value over its file, as padding=same")
    parameters: Count | None = Field(
        None, description="scale the width to the nearest count that is not larger, as 500k"
    )

    @property
    def label(self) -> str:
        """What it is called.

        >>> Baseline(network="preset:unet-2015", parameters="500k").label
        'preset:unet-2015 at 500K'
        """
        size = f" at {format_count(self.parameters)}" if self.parameters else ""
        return self.name or f"{self.network}{size}"

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = list(self._faults())
        if faults:
            summary = "; ".join(fault.rule for fault in faults)
            raise faults_error(faults, summary)
        return self

    def _faults(self) -> Iterator[Fault]:
        if not self.network.startswith("python:"):
            return
        for name in ("set", "parameters"):
            if getattr(self, name):
                rule = "is for architectures; a network of Python code has no fields"
                yield Fault((name,), rule, fix=f"remove {name}")


def _as_network(value: Any) -> Any:
    return {"network": value} if isinstance(value, str) else value


# --- all three --------------------------------------------------------------------------------


class Sections(BaseModel):
    """The sections of a file that only a search reads; others are left to others."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)

    objectives: Annotated[
        tuple[Objective, ...], Field(min_length=1, max_length=3), BeforeValidator(_as_list)
    ] = Field(("dice",), description="one to three accuracies and costs")
    search: SearchConfig = Field(SearchConfig.model_construct(), description="how it is searched")
    baselines: tuple[Annotated[Baseline, BeforeValidator(_as_network)], ...] = Field(
        (), description="networks to compare with"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [*self._objective_faults(), *self._baseline_faults()]
        if faults:
            summary = "; ".join(fault.rule for fault in faults)
            raise faults_error(faults, summary)
        return self

    @property
    def accuracy(self) -> str:
        """The accuracy that training curves show: the first among the objectives, or Dice."""
        return next((name for name in self.objectives if is_accuracy(name)), "dice")

    @property
    def tournament(self) -> int:
        """Feasible draws for one trial.

        Within a budget networks that use more of it are on average more accurate, and MACs are
        known before training. With a cost among the objectives small networks are wanted too,
        and samplers other than TPE repeat themselves or are uniform on purpose.
        """
        if self.search.tournament is not None:
            return self.search.tournament
        accurate = len(self.objectives) == 1 and is_accuracy(self.objectives[0])
        return TOURNAMENT if accurate and self.search.sampler.type == "tpe" else 1

    def _objective_faults(self) -> Iterator[Fault]:
        for index, name in enumerate(self.objectives):
            if name in self.objectives[:index]:
                yield Fault(("objectives", index), "must be named once", repr(name), "remove it")
        if self.search.pruner.type == "none":
            return
        at, reads = ("search", "pruner"), (("objectives",),)
        if len(self.objectives) > 1:
            rule = "needs a single objective: Optuna prunes no trials of several"
            fix = "remove search.pruner, or keep one objective"
            yield Fault(at, rule, f"{len(self.objectives)} objectives", fix, reads)
        elif not is_accuracy(self.objectives[0]):
            rule = "needs an accuracy as its objective: a cost has no training curve"
            yield Fault(at, rule, self.objectives[0], "remove search.pruner", reads)

    def _baseline_faults(self) -> Iterator[Fault]:
        labels = [baseline.label for baseline in self.baselines]
        for index, label in enumerate(labels):
            if label in labels[:index]:
                rule = "must differ from the names of the other baselines"
                yield Fault(("baselines", index), rule, repr(label), "give it a name of its own")
