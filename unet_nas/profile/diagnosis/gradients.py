"""Row 3, measured: how large gradients are at every part, with the skips and without.

Sources: Drozdzal et al., "The Importance of Skip Connections in Biomedical Image Segmentation",
arXiv:1608.04117, figure 3 (updates per layer); Glorot and Bengio, AISTATS 2010 (vanishing
gradients at initialisation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from torch import nn

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding
from unet_nas.profile.diagnosis.reproduction import train
from unet_nas.profile.diagnosis.twin import Twin
from unet_nas.unet.outline import part_of
from unet_nas.unet.skips import Edge, skip_edges

LEARNING_RATE = 1e-3
#: steps after which gradients are taken again
STEPS = 10
#: networks that are averaged
_DRAWS = 2
#: a difference of less than this factor is not worth a word
_WORTH = 1.5


@dataclass(frozen=True, slots=True)
class PartGradient:
    """The root mean square of the gradients of a part's convolutions.

    Args:
        part: as in ``encoder.stages.0``.
        with_skips: at initialisation and after some steps.
        without_skips: the same without the skips; None where there are none.
    """

    part: str
    with_skips: tuple[float, float]
    without_skips: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of every part, under stated conditions.

    Args:
        conditions: of the twin.
        steps: after how many steps the second figure was taken.
        parts: in order of execution.
    """

    conditions: str
    steps: int
    parts: tuple[PartGradient, ...]


def measure(twin: Twin, *, steps: int = STEPS, seed: int) -> Gradients:
    """Returns the gradients of every part, with skips and without.

    Args:
        twin: what is trained.
        steps: after which gradients are taken a second time.
        seed: of the first draw of weights and inputs; both networks start from the same.
    """
    whole = _drawn(twin, steps, seed, frozenset())
    every = skip_edges(twin.graph)
    bare = _drawn(twin, steps, seed, every) if every else None
    parts = tuple(
        PartGradient(part, pair, None if bare is None else bare[part])
        for part, pair in whole.items()
    )
    conditions = f"{twin.conditions}, mean of {_DRAWS} random networks"
    return Gradients(conditions, steps, parts)


def _drawn(
    twin: Twin, steps: int, seed: int, without: frozenset[Edge]
) -> dict[str, tuple[float, float]]:
    """Returns the mean of several networks' gradients at the start and after some steps."""
    draws = [_gradients(twin, steps, seed + i, without) for i in range(_DRAWS)]
    return {
        part: (
            sum(first[part] for first, _ in draws) / _DRAWS,
            sum(second[part] for _, second in draws) / _DRAWS,
        )
        for part in draws[0][0]
    }


def _gradients(
    twin: Twin, steps: int, seed: int, without: frozenset[Edge]
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns one network's gradients at the start and after some steps."""
    module = twin.module(seed)
    taken: list[dict[str, float]] = []

    def observe(step: int) -> None:
        if step in (0, steps):
            taken.append(part_gradients(twin, module))

    train(
        twin,
        module,
        steps=steps + 1,
        rate=LEARNING_RATE,
        seed=seed,
        without=without,
        observe=observe,
    )
    return taken[0], taken[1]


def part_gradients(twin: Twin, module: nn.Module) -> dict[str, float]:
    """Returns the root mean square of the gradients of the convolutions of every part."""
    sums: dict[str, tuple[float, int]] = {}
    for node in twin.graph.nodes[1:]:
        if not (node.primitive.is_conv and node.primitive.parameters()):
            continue
        gradient = module.get_submodule(node.name).weight.grad
        if gradient is not None:
            total, count = sums.get(part_of(node.name), (0.0, 0))
            square = float(gradient.double().square().sum())  # type: ignore[operator]
            sums[part_of(node.name)] = (total + square, count + gradient.numel())  # type: ignore[operator]
    return {part: sqrt(total / count) for part, (total, count) in sums.items()}


def findings(result: Gradients) -> Iterator[Finding]:
    """Yields how much larger the first stage's gradients are with the skips."""
    encoder = [part for part in result.parts if part.part.split(".")[0] in ("stem", "encoder")]
    if not encoder or encoder[0].without_skips is None:
        return
    first, bare = encoder[0], encoder[0].without_skips
    ratios = [a / b if b else float("inf") for a, b in zip(first.with_skips, bare, strict=True)]
    if ratios[0] < _WORTH:
        text = (
            f"norms keep the gradients of {first.part} alive without the skips too: with them they "
            f"are {_times(ratios[0])} times as large at initialisation"
        )
        yield Finding("gradients", "note", 0.0, text)
        return
    text = (
        f"the gradients of {first.part} are {_times(ratios[0])} times as large with the skips as "
        f"without at initialisation, and {_times(ratios[1])} times after {result.steps} steps"
    )
    yield Finding("gradients", "note", min(1.0, 1 - 1 / ratios[0]), text)


def _times(ratio: float) -> str:
    """Returns a ratio with as many digits as it deserves.

    >>> _times(75512.3), _times(0.7166)
    ('75,512', '0.72')
    """
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"


def figure(result: Gradients) -> Figure:
    """Returns the gradients of every part at both times."""
    places = tuple(map(float, range(len(result.parts))))
    panels = []
    for i, when in enumerate(("at initialisation", f"after {result.steps} steps")):
        series = [Series("with skips", places, tuple(q.with_skips[i] for q in result.parts))]
        if all(part.without_skips is not None for part in result.parts):
            bare = tuple((part.without_skips or (0.0, 0.0))[i] for part in result.parts)
            series.append(Series("without", places, bare))
        panels.append(
            Panel(
                f"Gradients {when}",
                "part, in order of execution",
                "root mean square",
                tuple(series),
                log_y=True,
                ticks=tuple(part.part for part in result.parts),
            )
        )
    return Figure("gradients", result.conditions, tuple(panels))
