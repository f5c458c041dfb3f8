"""Failed trainings in words: of one trial, and of a search in which nothing came to an end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unet_nas.errors import UnetNasError
from unet_nas.records.study import TrialFailure, TrialRecord

__all__ = ["HopelessError", "failure_text", "fruitless"]


class HopelessError(UnetNasError):
    """So many trials have failed, and none has not, that further ones would too."""


def failure_text(failure: TrialFailure) -> str:
    """Returns kind and reason of a failure.

    >>> failure_text(TrialFailure("nan_loss", "the loss is nan at step 2"))
    'nan_loss: the loss is nan at step 2'
    >>> failure_text(TrialFailure("failed", "dice could not be measured"))
    'dice could not be measured'
    """
    return failure.reason if failure.kind == "failed" else f"{failure.kind}: {failure.reason}"


def fruitless(records: Sequence[TrialRecord]) -> str | None:
    """Says why no trial is of use; None where one is.

    The reason is the most frequent one of the most frequent kind: reasons name steps, so that
    those of one kind often differ.
    """
    if not records:
        return "no trial came to its end: give more time"
    complete = [record for record in records if record.state == "complete"]
    if complete:
        return _over_budget(complete)
    failures = [record.failure for record in records if record.failure is not None]
    if not failures:
        return None
    (kind, _), *_ = Counter(failure.kind for failure in failures).most_common(1)
    texts = Counter(failure_text(failure) for failure in failures if failure.kind == kind)
    (text, number), *_ = texts.most_common(1)
    share = f"{number} of {len(records)} trials"
    return f"no trial is complete; the most frequent reason ({share}): {text}"


def _over_budget(complete: Sequence[TrialRecord]) -> str | None:
    """Says by how much all trials are over a limit that only measuring tells."""
    if any(record.feasible for record in complete):
        return None
    nearest = min(complete, key=lambda record: max(record.constraints.values()))
    over = [name for name, excess in nearest.constraints.items() if excess > 0]
    said = " and ".join(f"{name} {nearest.costs[name]:.4g} ms" for name in over)
    return (
        f"no trial keeps the measured budget; the nearest, {nearest.name}, has {said}: raise "
        f"{' and '.join(f'budget.{name}' for name in over)}"
    )
