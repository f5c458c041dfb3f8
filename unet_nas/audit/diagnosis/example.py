"""Row 5: an impulse through one stage down and up, with every vector in between.

The example of the source document, with whole numbers: the encoder's kernel (1, 0, 2) and a ReLU
turn an impulse into (2, 0, 1), a mean over 2 goes down, nearest interpolation comes up, and one
convolution with a bias and a ReLU reads both paths. The network is the schema's own:
:data:`EXAMPLE` in YAML, and a test runs the real module with these weights.

An impulse at 3 and one at 4 look the same from below, so no decoder without the skip can tell
them apart; the best that it can do for both is a half at each.

Row 4's identity: a signal is what a low-pass leaves of it plus what the low-pass takes away.
Source: Oppenheim and Schafer, *Discrete-Time Signal Processing*, chapters 2 and 5.
"""

from __future__ import annotations

from cmath import exp
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series

Signal = tuple[float, ...]

#: the network of the example
EXAMPLE = """\
architecture:
  spatial_dims: 1
  depth: 1
  features: [1, 1]
  classes: 1
  convs: 1
  norm: none
  down: avg_pool
  up: {type: interpolation, kernel_size: null}
"""

ENCODER: Signal = (1, 0, 2)
BOTTLENECK: Signal = (1, 0, 2)
SKIP_WEIGHTS: Signal = (1, 0, 0)
DECODER_WEIGHTS: Signal = (0, 0.5, 0)
BIAS = -1.5


@dataclass(frozen=True, slots=True)
class Worked:
    """Every vector of the example.

    Args:
        signal: the input.
        skip: the encoder's map, which the skip keeps.
        pooled: the same, brought down.
        bottleneck: after the convolution at half resolution.
        up: brought up again: what the decoder knows from below.
        with_skip: the output.
        without_skip: the best output for impulses at 3 and 4 alike, which look the same from below.
    """

    signal: Signal
    skip: Signal
    pooled: Signal
    bottleneck: Signal
    up: Signal
    with_skip: Signal
    without_skip: Signal

    @property
    def error_with(self) -> float:
        """Sum of squared differences from the input, with the skip."""
        return squared_error(self.with_skip, self.signal)

    @property
    def error_without(self) -> float:
        """The same without the skip; no decoder can do better for both impulses."""
        return squared_error(self.without_skip, self.signal)


def impulse(position: int, length: int = 8) -> Signal:
    """Returns a signal that is 1 at one position and 0 elsewhere.

    >>> impulse(4)
    (0, 0, 0, 0, 1, 0, 0, 0)
    """
    return tuple(int(i == position) for i in range(length))


def convolve(signal: Sequence[float], kernel: Sequence[float], bias: float = 0) -> Signal:
    """Returns a convolution as ``torch.nn.Conv1d`` computes it, with same padding.

    >>> convolve(impulse(4), (1, 0, 2))
    (0, 0, 0, 2, 0, 1, 0, 0)
    """
    half = len(kernel) // 2
    padded = [*[0] * half, *signal, *[0] * half]
    return tuple(
        sum(w * padded[i + j] for j, w in enumerate(kernel)) + bias for i in range(len(signal))
    )


def relu(signal: Sequence[float]) -> Signal:
    """Returns a signal without its negative values.

    >>> relu((1, -2, 0))
    (1, 0, 0)
    """
    return tuple(max(0, value) for value in signal)


def averaged(signal: Sequence[float]) -> Signal:
    """Returns the means of neighbouring pairs.

    >>> averaged((0, 2, 0, 1))
    (1.0, 0.5)
    """
    pairs = zip(signal[::2], signal[1::2], strict=True)
    return tuple((a + b) / 2 for a, b in pairs)


def repeated(signal: Sequence[float]) -> Signal:
    """Returns each value twice (nearest interpolation).

    >>> repeated((1, 2))
    (1, 1, 2, 2)
    """
    return tuple(value for value in signal for _ in range(2))


def squared_error(a: Sequence[float], b: Sequence[float]) -> float:
    """Returns the sum of squared differences."""
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def worked(position: int = 4) -> Worked:
    """Returns the example for an impulse at a position.

    >>> w = worked(4)
    >>> w.signal
    (0, 0, 0, 0, 1, 0, 0, 0)
    >>> w.skip
    (0, 0, 0, 2, 0, 1, 0, 0)
    >>> w.pooled
    (0.0, 1.0, 0.5, 0.0)
    >>> w.bottleneck
    (2.0, 1.0, 1.0, 0.5)
    >>> w.up
    (2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5)
    >>> w.with_skip
    (0, 0, 0, 0, 1.0, 0, 0, 0)
    >>> w.without_skip
    (0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0)
    >>> w.error_with, w.error_without
    (0.0, 0.5)
    >>> worked(3).up == worked(4).up
    True
    """
    signal = impulse(position)
    skip = relu(convolve(signal, ENCODER))
    pooled = averaged(skip)
    bottleneck = relu(convolve(pooled, BOTTLENECK))
    up = repeated(bottleneck)
    parts = zip(convolve(skip, SKIP_WEIGHTS), convolve(up, DECODER_WEIGHTS), strict=True)
    with_skip = relu([a + b + BIAS for a, b in parts])
    return Worked(signal, skip, pooled, bottleneck, up, with_skip, _best_without(up))


def _best_without(up: Signal) -> Signal:
    """Returns the mean of all impulses that give the same map from below: least squares."""
    alike = [impulse(i) for i in range(len(up)) if _from_below(impulse(i)) == up]
    return tuple(sum(values) / len(alike) for values in zip(*alike, strict=True))


def _from_below(signal: Signal) -> Signal:
    pooled = averaged(relu(convolve(signal, ENCODER)))
    return repeated(relu(convolve(pooled, BOTTLENECK)))


def lines(position: int = 4) -> list[str]:
    """Returns the example as lines of text, one vector a line."""
    found = worked(position)
    rows = (
        ("input", found.signal),
        ("encoder, kept by the skip", found.skip),
        ("mean over 2", found.pooled),
        ("bottleneck", found.bottleneck),
        ("nearest up", found.up),
        ("output with the skip", found.with_skip),
        ("best output without", found.without_skip),
    )
    width = max(len(name) for name, _ in rows)
    text = [f"{name:{width}}  {' '.join(f'{v:>4g}' for v in values)}" for name, values in rows]
    errors = f"squared error: {found.error_with:g} with the skip, {found.error_without:g} without"
    return [*text, errors]


# --- row 4: low-pass plus high-pass -------------------------------------------------------


def low_pass(signal: Sequence[float]) -> Signal:
    """Returns what one stage down and up leaves: means over 2, each repeated.

    >>> low_pass((1, 0, 0, 0))
    (0.5, 0.5, 0.0, 0.0)
    """
    return repeated(averaged(signal))


def high_pass(signal: Sequence[float]) -> Signal:
    """Returns what the low-pass takes away: what a skip has to carry.

    >>> high_pass((1, 0, 0, 0))
    (0.5, -0.5, 0.0, 0.0)
    """
    return tuple(a - b for a, b in zip(signal, low_pass(signal), strict=True))


def power(signal: Sequence[float]) -> Signal:
    """Returns the power of each frequency from 0 to half a cycle per position.

    >>> [round(p, 3) for p in power((1, -1, 1, -1))]
    [0.0, 0.0, 4.0]
    """
    n = len(signal)
    waves = ([exp(-2j * pi * f * i / n) for i in range(n)] for f in range(n // 2 + 1))
    sums = (sum(w * v for w, v in zip(wave, signal, strict=True)) for wave in waves)
    return tuple(abs(one) ** 2 / n for one in sums)


def figures() -> list[Figure]:
    """Returns the example, and the spectra of low-pass, high-pass and their sum."""
    found = worked()
    panels = [
        _stems("Input", found.signal),
        _stems("Encoder: kept by the skip", found.skip),
        _stems("From below", found.up),
        _stems("Output with the skip", found.with_skip),
        _stems("Best output without", found.without_skip),
    ]
    signal = impulse(16, 32)
    frequencies = tuple(i / 32 for i in range(17))
    spectra = {
        "signal": signal,
        "low-pass: down and up": low_pass(signal),
        "high-pass: the skip": high_pass(signal),
    }
    series = tuple(Series(name, frequencies, power(one)) for name, one in spectra.items())
    spectrum = Panel(
        "An impulse has every frequency alike",
        "frequency (cycles per position)",
        "power",
        series,
    )
    return [
        Figure("worked_example", "An impulse at 4 through one stage down and up.", tuple(panels)),
        Figure("low_and_high", "A signal is its low-pass plus the rest.", (spectrum,)),
    ]


def _stems(title: str, signal: Signal) -> Panel:
    places = tuple(map(float, range(len(signal))))
    return Panel(title, "position", "value", (Series("", places, signal),), kind="stems")
