"""Training patches: drawn, augmented and batched ahead of the loop, the same for the same seed.

Batch ``i`` depends on the seed and ``i`` alone. So the state to resume from is one number, and
what a background thread has made ahead is of no consequence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from unet_nas.train.data.augment import (
    change_intensity,
    draw_layout,
    draw_matrix,
    lay_out,
)
from unet_nas.train.data.cases import IGNORE, Array, Case, Task
from unet_nas.train.data.options import Augment

__all__ = ["Batch", "Patches"]

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]

#: so many foreground positions of a case are kept to centre patches on
_MOST_CENTRES = 20_000


class Patches(Iterator[Batch]):
    """An endless iterator of batches.

    Each pass takes every case equally often, in an order of its own. A patch lies inside its image
    wherever the image is large enough; ``foreground`` of the patches are centred on a position
    of a class that is drawn first, so that rare classes come as often as common ones.

    Where an image is smaller than the patch, it is mirrored beyond its border, and so is the
    target: zeros would teach a border that no image has. With an ignore label the target is
    ignored there instead, since what is mirrored is no new evidence. The same holds beyond the
    border of networks that need context: of these, ``target_crop`` is the size of the output; it
    lies inside the image, and the input reaches beyond it, into the image where there is one.

    Args:
        cases: To draw from.
        task: Of the cases.
        patch_size: Spatial size of the input.
        batch_size: Patches per batch.
        foreground: Share of patches that are centred on a foreground position.
        augment: Random changes; None for none.
        seed: Of everything drawn.
        target_crop: Spatial size of the target, the centre of the patch; None for the whole.
        ahead: Batches made in a background thread; 0 makes each when it is asked for.
        pinned: Whether batches lie in pinned memory, which a GPU copies from while it computes.

    Yields:
        Inputs (batch, channels, *patch) float32, and targets (batch, *target) int64, or
        (batch, labels, *target) float32 where labels overlap. Ignored positions are `IGNORE`.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        task: Task,
        *,
        patch_size: Sequence[int],
        batch_size: int,
        foreground: float = 0.33,
        augment: Augment | None = None,
        seed: int = 0,
        target_crop: Sequence[int] | None = None,
        ahead: int = 2,
        pinned: bool = False,
    ) -> None:
        self._cases = tuple(cases)
        self._task = task
        self._input = tuple(patch_size)
        self._target = self._input if target_crop is None else tuple(target_crop)
        self._batch_size = batch_size
        self._foreground = foreground
        self._augment = augment
        self._seed = seed
        self._ahead = ahead
        self._pinned = pinned
        self._next = 0
        self._centres = tuple(_centres(case, task) for case in self._cases)
        self._waiting: deque[Future[Batch]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if not self._ahead:
            batch = self.batch(self._next)
        else:
            self._work_ahead()
            batch = self._waiting.popleft().result()
        self._next += 1
        if self._ahead:
            self._work_ahead()
        return batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the background thread; the next batch would start one again."""
        self._drop_waiting()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def state(self) -> dict[str, Any]:
        """Returns where the iterator stands, as plain data."""
        return {"batch": self._next, "seed": self._seed}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken."""
        self._drop_waiting()
        self._next, self._seed = int(state["batch"]), int(state["seed"])

    def _drop_waiting(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.cancel():
                future.exception()  # waits for the one in hand

    def _work_ahead(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="patches")
        while len(self._waiting) < self._ahead:
            self._waiting.append(self._pool.submit(self.batch, self._next + len(self._waiting)))

    def batch(self, index: int) -> Batch:
        """Returns the batch of that number."""
        labels = (self._task.classes,) if self._task.multi_label else ()
        inputs = np.empty((self._batch_size, self._task.in_channels, *self._input), np.float32)
        targets = np.empty((self._batch_size, *labels, *self._target), np.uint8)
        for slot, case in enumerate(self._drawn(index)):
            random = np.random.default_rng([self._seed, index, slot])
            self._draw(case, random, inputs[slot], targets[slot])
        # by NumPy: PyTorch would start a team of threads of its own here, and both teams would wait
        kind = np.float32 if self._task.multi_label else np.int64
        batch = torch.from_numpy(inputs), torch.from_numpy(targets.astype(kind))
        return (batch[0].pin_memory(), batch[1].pin_memory()) if self._pinned else batch

    def _drawn(self, index: int) -> list[int]:
        """Returns the cases of a batch: the next ones of the pass, each pass in its own order."""
        number, begin = len(self._cases), index * self._batch_size
        places = range(begin, begin + self._batch_size)
        # zeros at the end of a seed say nothing: the 1 keeps these apart from those of patches
        orders = {
            turn: np.random.default_rng([self._seed, turn, 0, 1]).permutation(number)
            for turn in {place // number for place in places}
        }
        return [int(orders[place // number][place % number]) for place in places]

    def _draw(self, index: int, random: np.random.Generator, image: Array, target: Array) -> None:
        """Writes one patch."""
        case = self._cases[index]
        centre = self._centre(index, random)
        matrix = draw_matrix(self._augment, len(self._input), random) if self._augment else None
        if matrix is None:
            found = _cut(case.image, centre, self._input)
            truth = _cut(case.target, centre, self._target, fill=self._fill_value)
        else:
            found = _turned(case.image, centre, self._input, matrix, order=1)
            truth = _turned(
                case.target, centre, self._target, matrix, order=0, fill=self._fill_value
            )
        if self._augment is not None:
            layout = draw_layout(self._augment, (self._input, self._target), random)
            found = lay_out(found, layout, dims=len(self._input))
            truth = lay_out(truth, layout, dims=len(self._input))
        image[...], target[...] = found, truth
        if self._augment is not None:
            change_intensity(image, self._augment, random)

    @property
    def _fill_value(self) -> int | None:
        return IGNORE if self._task.ignore_label is not None else None

    def _centre(self, index: int, random: np.random.Generator) -> tuple[float, ...]:
        """Draws the centre of a patch so that the target lies inside the image if it can."""
        shape = self._cases[index].image.shape[1:]
        classes = self._centres[index]
        wanted: Sequence[float] = ()
        if classes and random.random() < self._foreground:
            positions = classes[int(random.integers(len(classes)))]
            wanted = positions[int(random.integers(len(positions)))].tolist()
        return tuple(
            _centre_along(n, size, wanted[axis] if wanted else None, random)
            for axis, (n, size) in enumerate(zip(shape, self._target, strict=True))
        )


def _centre_along(
    whole: int, size: int, wanted: float | None, random: np.random.Generator
) -> float:
    """Returns the centre of a window along one axis, in positions; a window of 4 has it at 1.5."""
    room = whole - size
    if room <= 0:
        # the image stands in the middle of the patch
        return room // 2 + (size - 1) / 2
    if wanted is None:
        begin = int(random.integers(room + 1))
    else:
        begin = min(max(int(wanted) - size // 2, 0), room)
    return begin + (size - 1) / 2


def _centres(case: Case, task: Task) -> tuple[NDArray[np.int32], ...]:
    """Returns positions of each foreground class that a case has, evenly taken."""
    if task.multi_label:
        masks = [label == 1 for label in case.target]
    else:
        masks = [case.target == index for index in range(1, task.classes)]
    found = [np.flatnonzero(mask) for mask in masks]
    shape = case.image.shape[1:]
    return tuple(
        np.stack(np.unravel_index(flat[:: -(-len(flat) // _MOST_CENTRES)], shape), axis=1).astype(
            np.int32
        )
        for flat in found
        if len(flat)
    )


# --- windows ------------------------------------------------------------------------------


def _cut(
    array: Array, centre: Sequence[float], size: Sequence[int], fill: int | None = None
) -> Array:
    """Returns a window of (..., *spatial) about a centre, mirrored or filled outside."""
    lead = array.ndim - len(size)
    shape = array.shape[lead:]
    begins = [round(c - (n - 1) / 2) for c, n in zip(centre, size, strict=True)]
    inside = all(b >= 0 and b + n <= whole for b, n, whole in zip(begins, size, shape, strict=True))
    if inside:
        window = [slice(b, b + n) for b, n in zip(begins, size, strict=True)]
        return array[(slice(None),) * lead + tuple(window)]
    found = array
    for axis, (begin, n, whole) in enumerate(zip(begins, size, shape, strict=True)):
        found = np.take(found, mirrored(begin, n, whole), axis=lead + axis)
    if fill is not None:
        for axis, (begin, n, whole) in enumerate(zip(begins, size, shape, strict=True)):
            places = np.arange(begin, begin + n)
            beyond = np.moveaxis(found, lead + axis, 0)
            beyond[(places < 0) | (places >= whole)] = fill
    return found


def mirrored(begin: int, size: int, whole: int) -> NDArray[np.intp]:
    """Returns the positions of a window in an image that is mirrored at its first and last one.

    >>> mirrored(-2, 6, 3).tolist()
    [2, 1, 0, 1, 2, 1]
    """
    places = np.arange(begin, begin + size)
    if whole == 1:
        return np.zeros_like(places)
    period = 2 * (whole - 1)
    places %= period
    return np.where(places < whole, places, period - places)


def _turned(
    array: Array,
    centre: Sequence[float],
    size: Sequence[int],
    matrix: NDArray[np.float64],
    *,
    order: int,
    fill: int | None = None,
) -> Array:
    """Returns the window of (..., *spatial) seen through a matrix about its centre."""
    from scipy.ndimage import affine_transform  # noqa: PLC0415 - slow to load

    shape = array.shape[array.ndim - len(size) :]
    middle = (np.array(size) - 1) / 2
    offset = np.array(centre) - matrix @ middle
    planes = array.reshape(-1, *shape)
    found = np.empty((len(planes), *size), array.dtype)
    for plane, made in zip(planes, found, strict=True):
        affine_transform(
            plane,
            matrix,
            offset,
            output=made,
            output_shape=tuple(size),
            order=order,
            mode="mirror" if fill is None else "constant",
            cval=0 if fill is None else fill,
            prefilter=False,
        )
    return found.reshape(*array.shape[: array.ndim - len(size)], *size)
