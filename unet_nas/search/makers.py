"""Samplers and pruners of Optuna from what a file says, with every argument written out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from unet_nas.errors import InputError
from unet_nas.search.config import SearchConfig
from unet_nas.search.storage import quiet_warnings
from unet_nas.text.sentences import did_you_mean

__all__ = ["Made", "make_pruner", "make_sampler"]

_HOMES: tuple[ModuleType, ...] = (optuna.samplers, optuna.samplers.nsgaii, optuna.pruners)
#: arguments that Optuna warns of when they are given at all
_DEPRECATED: Mapping[str, tuple[str, ...]] = {
    "TPESampler": (
        *("consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints"),
        *("gamma", "weights", "warn_independent_sampling", "constraints_func"),
    )
}
_FUNCTIONS = ("constraints_func",)
_NSGA2_POPULATION = 50


@dataclass(frozen=True, slots=True)
class Made:
    """A class of Optuna with its arguments.

    Attributes:
        type: Name of the class.
        arguments: All of them, defaults too, as plain data for the record.
    """

    type: str
    arguments: dict[str, Any]

    @property
    def record(self) -> dict[str, Any]:
        """As the header of a run keeps it."""
        return {"type": self.type, **self.arguments}


def sampler_spec(search: SearchConfig, *, seed: int, workers: int) -> Made:
    """Returns the sampler of Optuna that a section asks for, all arguments explicit.

    Args:
        search: the section.
        seed: of this process.
        workers: processes in all: with several, TPE keeps away from what the others are at.

    Raises:
        InputError: if there is no such class, or it has no such argument.
    """
    choice = search.sampler
    given = choice.arguments
    match choice.type:
        case "grid":
            if given:
                raise InputError(f"search.sampler: grid has no {next(iter(given))!r}")
            return Made("grid", {})
        case "random":
            return _filled("RandomSampler", given, {"seed": seed})
        case "tpe":
            joint = {"multivariate": True, "group": True}
            ours = {**joint, "constant_liar": workers > 1, "seed": seed}
            return _filled("TPESampler", given, ours)
        case "nsga2":
            population = max(4, min(_NSGA2_POPULATION, search.trials // 4))
            return _filled("NSGAIISampler", given, {"population_size": population, "seed": seed})
    quiet = {"warn_independent_sampling": False, "warn_asynchronous_seeding": False}
    return _filled(choice.type, given, {**quiet, "seed": seed})


def pruner_spec(search: SearchConfig, *, validations: int) -> Made:
    """Returns the pruner that a section asks for, all arguments explicit.

    Args:
        search: the section.
        validations: points of a training curve.

    Raises:
        InputError: if there is no such class, or it has no such argument.
    """
    given = search.pruner.arguments
    match search.pruner.type:
        case "none":
            return _filled("NopPruner", given, {})
        case "median":
            return _filled("MedianPruner", given, {"n_startup_trials": 5, "n_warmup_steps": 1})
        case "hyperband":
            ours = {"min_resource": 1, "max_resource": max(2, validations), "reduction_factor": 3}
            return _filled("HyperbandPruner", given, ours)
    return _filled(search.pruner.type, given, {})


def make_sampler(spec: Made) -> BaseSampler:
    """Makes the sampler.

    Raises:
        InputError: if it refuses its arguments, or a package is missing.
    """
    made = _make(spec, "search.sampler")
    assert isinstance(made, BaseSampler)
    return made


def make_pruner(spec: Made) -> BasePruner:
    """Makes the pruner.

    Raises:
        InputError: if it refuses its arguments.
    """
    made = _make(spec, "search.pruner")
    assert isinstance(made, BasePruner)
    return made


def _filled(kind: str, given: Mapping[str, Any], ours: Mapping[str, Any]) -> Made:
    """Returns all arguments of a class: the given ones, ours, and its defaults."""
    signature = inspect.signature(_class(kind).__init__)
    hidden = ("self", *_DEPRECATED.get(kind, ()), *_FUNCTIONS)
    known = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in hidden and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    for name in given:
        if name not in known:
            hint = did_you_mean(name, list(known)) or f"it has {', '.join(known)}"
            raise InputError(f"search: {kind} has no argument {name!r}; {hint}")
    arguments = {
        name: parameter.default
        for name, parameter in known.items()
        if parameter.default is not inspect.Parameter.empty
    }
    arguments |= {name: value for name, value in ours.items() if name in known}
    arguments |= given
    return Made(kind, arguments)


def _class(kind: str) -> Any:
    for home in _HOMES:
        if kind in home.__all__ and inspect.isclass(getattr(home, kind)):
            return getattr(home, kind)
    known = [
        name for home in _HOMES for name in home.__all__ if name.endswith(("Sampler", "Pruner"))
    ]
    hint = did_you_mean(kind, known) or f"there are {', '.join(known)}"
    raise InputError(f"search: Optuna has no class {kind!r}; {hint}")


def _make(spec: Made, where: str) -> Any:
    arguments = {name: _value(value, where) for name, value in spec.arguments.items()}
    try:
        with quiet_warnings():
            return _class(spec.type)(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {spec.type}: {' '.join(str(error).split())}") from error
    except ImportError as error:
        package = getattr(error, "name", None) or str(error)
        raise InputError(f"{where}: {spec.type} needs a package: {package}") from error


def _value(value: Any, where: str) -> Any:
    """Returns an argument; a mapping with ``type`` is a class of Optuna with its arguments."""
    if isinstance(value, dict) and "type" in value:
        inner = {name: part for name, part in value.items() if name != "type"}
        return _make(_filled(value["type"], inner, {}), where)
    return value
