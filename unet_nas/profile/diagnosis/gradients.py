"""Row 3, measured: how large gradients are at every part, over the skips and without them.

Three networks with the same first weights: as it is; with the same forward pass but no gradient
back over the skips, which leaves the long way through the bottleneck; and with the skips taken
out. The first two differ in nothing but the paths of the gradient. Sources: Drozdzal et al.,
"The Importance of Skip Connections in Biomedical Image Segmentation", arXiv:1608.04117, figure 3
(updates per layer); Glorot and Bengio, AISTATS 2010 (vanishing gradients at initialisation).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding
from unet_nas.profile.diagnosis.reproduction import loss_of, noise, train
from unet_nas.profile.diagnosis.twin import Twin, one_way, outputs_of, silenced
from unet_nas.unet.outline import part_of
from unet_nas.unet.skips import skip_edges

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

    Each figure is a pair: at initialisation, and after some steps.

    Args:
        part: as in ``encoder.stages.0``.
        with_skips: of the network as it is.
        long_way: with no gradient back over the skips; None where there are none.
        without_skips: of the network without its skips; None where there are none.
    """

    part: str
    with_skips: tuple[float, float]
    long_way: tuple[float, float] | None = None
    without_skips: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of every part, under stated conditions.

    Args:
        conditions: of the twin.
        steps: after how many steps the second figures were taken.
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
        seed: of the first draw of weights and inputs.
    """
    count = _DRAWS if twin.batch_size > 1 else 1
    draws = [_draw(twin, steps, seed + i) for i in range(count)]
    parts = []
    for part in draws[0][0][0]:
        pairs = [
            (_mean(draw[i][0][part] for draw in draws), _mean(draw[i][1][part] for draw in draws))
            for i in range(len(draws[0]))
        ]
        parts.append(PartGradient(part, *pairs))
    conditions = f"{twin.conditions}, mean over {count} initialisations"
    return Gradients(conditions, steps, tuple(parts))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


Pair = tuple[dict[str, float], dict[str, float]]


def _draw(twin: Twin, steps: int, seed: int) -> list[Pair]:
    """Returns gradients at both times of the network as it is, its long way, and without skips."""
    edges = skip_edges(twin.graph)
    x = noise(twin, torch.Generator().manual_seed(seed))
    whole = twin.module(seed)
    start, closed = part_gradients(twin, whole, x), None
    if edges:
        with one_way(whole, twin.graph, edges):
            closed = part_gradients(twin, whole, x)
    train(twin, whole, steps=steps, rate=LEARNING_RATE, seed=seed)
    end = part_gradients(twin, whole, x)
    if closed is None:
        return [(start, end)]
    with one_way(whole, twin.graph, edges):
        later = part_gradients(twin, whole, x)
    bare = twin.module(seed)
    with silenced(bare, twin.graph, edges):
        first = part_gradients(twin, bare, x)
        train(twin, bare, steps=steps, rate=LEARNING_RATE, seed=seed)
        last = part_gradients(twin, bare, x)
    return [(start, end), (closed, later), (first, last)]


def part_gradients(twin: Twin, module: nn.Module, x: Tensor) -> dict[str, float]:
    """Returns the root mean square of the gradients of the convolutions of every part."""
    module.zero_grad()
    loss_of(twin, outputs_of(module, x), x).backward()  # type: ignore[no-untyped-call]
    sums: dict[str, tuple[float, int]] = {}
    for node in twin.graph.nodes[1:]:
        if not (node.primitive.is_conv and node.primitive.parameters()):
            continue
        gradient = module.get_submodule(node.name).get_parameter("weight").grad
        if gradient is not None:
            total, count = sums.get(part_of(node.name), (0.0, 0))
            square = float(gradient.double().square().sum())
            sums[part_of(node.name)] = (total + square, count + gradient.numel())
    module.zero_grad()
    return {part: sqrt(total / count) for part, (total, count) in sums.items()}


def findings(result: Gradients) -> Iterator[Finding]:
    """Yields how much of the first stage's gradients comes over the skips."""
    encoder = [part for part in result.parts if part.part.split(".")[0] in ("stem", "encoder")]
    if not encoder or encoder[0].long_way is None:
        return
    first, closed = encoder[0], encoder[0].long_way
    if not all(closed):
        text = f"no gradient reaches {first.part} on the long way: all of it comes over the skips"
        yield Finding("gradients", "note", 1.0, text)
        return
    ratios = [a / b for a, b in zip(first.with_skips, closed, strict=True)]
    if ratios[0] < _WORTH:
        return
    text = (
        f"without the way back over the skips the gradients of {first.part} would be "
        f"{_times(ratios[0])} times as small at initialisation, and {_times(ratios[1])} times "
        f"after {result.steps} steps"
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
    names = {
        "with skips": "with_skips",
        "same, none back over the skips": "long_way",
        "skips taken out": "without_skips",
    }
    panels = []
    for i, when in enumerate(("at initialisation", f"after {result.steps} steps")):
        series = []
        for label, name in names.items():
            pairs = [getattr(part, name) for part in result.parts]
            if None not in pairs:
                series.append(Series(label, places, tuple(pair[i] for pair in pairs)))
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
