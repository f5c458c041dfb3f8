"""The training of one network: a plain PyTorch loop with a budget, and its result as data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unet_nas.audit.memory import Device
from unet_nas.errors import InputError
from unet_nas.records.study import Point, TrialFailure
from unet_nas.train.checkpoint import Parts, State, identify, plain_copies, read, write
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.patches import Patches
from unet_nas.train.failures import is_out_of_memory, judge_loss, out_of_memory
from unet_nas.train.infer import output_size
from unet_nas.train.interruption import Interruption
from unet_nas.train.metric_names import accuracy, check_metrics
from unet_nas.train.metrics import Tolerances, score
from unet_nas.train.outcome import Fit, Progress
from unet_nas.train.schedule import TrainingSchedule, steps_per_epoch
from unet_nas.train.step import Step, channels_last, make_loss

if TYPE_CHECKING:
    from unet_nas.train.data.cases import Dataset

__all__ = ["CHECK_EVERY", "Fit", "Progress", "fit"]

CHECK_EVERY = 10
"""Steps between two looks at the loss; a look makes the CPU wait for the device."""
SAVE_EVERY_S = 60.0
"""Seconds between two checkpoints, besides those after every validation."""


def fit(
    module: nn.Module,
    data: Dataset,
    config: TrainConfig,
    *,
    seed: int,
    device: Device = "cpu",
    score_name: str = "dice",
    metrics: Sequence[str] = (),
    on_point: Callable[[Point], bool] | None = None,
    on_step: Callable[[Progress], object] | None = None,
    checkpoint: Path | None = None,
) -> Fit:
    """Trains a network on ``data.train`` and scores it on ``data.validation``.

    The module is moved to the device and left there with its best weights. With a budget in steps
    or epochs, the same weights, data, section and seed give the same scores on the same machine,
    bit for bit; on CUDA where the operators of the network are deterministic.

    Args:
        module: The network, with the weights to begin from.
        data: What is learnt and scored.
        config: The section ``train``; its patch size must be given.
        seed: Of patches, augmentation and dropout.
        device: ``cpu`` or ``cuda``.
        score_name: The metric that the best weights are chosen by.
        metrics: Others that are taken once, of the best weights.
        on_point: Called after every validation; True ends the training.
        on_step: Called after every step.
        checkpoint: File that the training is written to and, where it is there, resumed from.

    Returns:
        The result; a loss that is not a number, divergence and memory that ran out are in
        `Fit.failure`.

    Raises:
        InputError: if the section, the metrics or the checkpoint do not fit the data.
        SizeError: if the network does not run on the patch size.
    """
    check_metrics([score_name, *metrics], data.task)
    patch_size = config.size(data.task.spatial_dims)
    if patch_size is None:
        raise InputError("train.patch_size must be given, as patch_size: 128x128")
    # what the loop changes in PyTorch's state is given back: the generators, and how cuDNN chooses
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.backends.cudnn.flags(enabled=True, deterministic=True),
    ):
        torch.manual_seed(seed)
        trainer = None
        try:
            trainer = _Trainer(
                module,
                data,
                config,
                patch_size,
                seed=seed,
                device=device,
                score_name=score_name,
                on_point=on_point,
                on_step=on_step,
                checkpoint=checkpoint,
            )
            return trainer.run(metrics)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = out_of_memory(error, "in training")
        return trainer.result(failure) if trainer else Fit((), None, {}, {}, failure)


class _Trainer:
    """A training with all that it has gathered so far."""

    def __init__(
        self,
        module: nn.Module,
        data: Dataset,
        config: TrainConfig,
        patch_size: tuple[int, ...],
        *,
        seed: int,
        device: Device,
        score_name: str,
        on_point: Callable[[Point], bool] | None,
        on_step: Callable[[Progress], object] | None,
        checkpoint: Path | None,
    ) -> None:
        training = config.training(device)
        self.layout = channels_last(config, training, data.task.spatial_dims)
        self.module = _moved(module, device, self.layout)
        self.data, self.patch_size, self.device = data, patch_size, device
        self.precision = training.precision
        self.score_name, self.tolerances = score_name, Tolerances.of(config)
        self.on_point, self.on_step, self.path = on_point, on_step, checkpoint
        output = output_size(
            self.module, patch_size, in_channels=data.task.in_channels, device=device
        )
        self.patches = Patches(
            data.train,
            data.task,
            patch_size=patch_size,
            batch_size=config.batch_size,
            foreground=config.foreground,
            augment=config.augment,
            seed=seed,
            target_crop=None if output == patch_size else output,
            pinned=device == "cuda",
        )
        criterion = make_loss(config, data.task, data.train)
        self.step = Step(self.module, config, training, criterion)
        self.schedule = TrainingSchedule.of(
            config, steps_per_epoch(data.train, patch_size, config.batch_size)
        )
        # only a checkpoint needs to know of what it is, and that reads all the data
        self.state = State(identify(module, data, config, seed) if checkpoint else {})
        self.best: dict[str, Tensor] = {}
        #: of the steps since the last look; it stays on the device, so that no step waits
        self.losses = torch.zeros((), device=device)
        self.stopped = False

    # --- the loop -------------------------------------------------------------------------

    def run(self, metrics: Sequence[str]) -> Fit:
        """Trains to the end of the budget, and takes more metrics of the best weights."""
        self._resume()
        with Interruption() as interruption, self.patches:
            failure = self._train(interruption)
        if failure is None:
            failure = self._unscored()
        if self.best:
            self.module.load_state_dict(self.best)
        if self.best and failure is None and metrics and not self.stopped:
            self.state.best_metrics |= self._score(metrics)
        return replace(self.result(failure), interrupted=interruption.met)

    def _train(self, interruption: Interruption) -> TrialFailure | None:
        """Runs steps until the budget is spent, something fails or somebody stops it."""
        now, saved = self.state, time.monotonic()
        self.module.train()
        while self._done() < 1 and not self.stopped:
            failure = self._step()
            if failure is None and self.schedule.due(self._done()) > now.validated:
                failure = self._validate()
            elif interruption.met or time.monotonic() >= saved + SAVE_EVERY_S:
                self._save()
                saved = time.monotonic()
            if failure is not None:
                return failure
            if interruption.met:
                self.stopped = True
        return None

    def _done(self) -> float:
        return self.schedule.done(self.state.step, self.state.training_s)

    def _step(self) -> TrialFailure | None:
        now, started = self.state, time.perf_counter()
        rate = self.schedule.rate(now.step, now.training_s)
        self.losses += self.step(*self._batch(), rate)
        now.step += 1
        now.pending += 1
        failure = self._look() if now.step % CHECK_EVERY == 0 else None
        now.training_s += time.perf_counter() - started
        if self.on_step is not None:
            seconds = now.training_s + now.validation_s
            self.on_step(Progress(now.step, self._done(), now.recent_loss, seconds))
        return failure

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Returns the next inputs and target on the device."""
        inputs, target = next(self.patches)
        inputs = inputs.to(self.device, non_blocking=True)
        target = target.to(self.device, non_blocking=True)
        if self.layout is not None:
            inputs = inputs.contiguous(memory_format=self.layout)
        return inputs, target

    def _look(self) -> TrialFailure | None:
        """Reads the losses since the last look, and judges their mean."""
        now = self.state
        if now.pending == 0:
            return None
        total = float(self.losses)
        self.losses.zero_()
        mean = total / now.pending
        now.point_loss += total
        now.point_steps += now.pending
        now.pending, now.recent_loss = 0, mean
        if now.first_loss is None:
            now.first_loss = mean
        return judge_loss(mean, now.first_loss, now.step)

    # --- validation -----------------------------------------------------------------------

    def _validate(self) -> TrialFailure | None:
        """Scores the network, and keeps its weights if they are the best so far."""
        now, started = self.state, time.perf_counter()
        failure = self._look()
        now.training_s += time.perf_counter() - started
        if failure is not None:
            return failure
        started = time.perf_counter()
        scores = self._score([self.score_name])
        now.validation_s += time.perf_counter() - started
        now.validated = self.schedule.due(self._done())
        point = self._point(scores.get(self.score_name))
        if point.score is not None and self._better(point.score):
            now.best_step, now.best_score, now.best_metrics = now.step, point.score, scores
            self.best = plain_copies(self._weights())
        now.history.append(point)
        now.point_loss, now.point_steps = 0.0, 0
        self._save()
        self.stopped = self.on_point is not None and self.on_point(point)
        return None

    def _score(self, metrics: Sequence[str]) -> dict[str, float]:
        return score(
            self.module,
            self.data.validation,
            self.data.task,
            patch_size=self.patch_size,
            metrics=metrics,
            tolerances=self.tolerances,
            device=self.device,
            precision=self.precision,
        )

    def _point(self, value: float | None) -> Point:
        now = self.state
        return Point(
            step=now.step,
            epoch=now.step / self.schedule.epoch_steps,
            loss=now.point_loss / now.point_steps if now.point_steps else None,
            score=value,
            learning_rate=self.schedule.rate(now.step - 1, now.training_s),
            seconds=now.training_s + now.validation_s,
        )

    def _better(self, value: float) -> bool:
        best = self.state.best_score
        if best is None:
            return True
        return value > best if accuracy(self.score_name).direction == "maximize" else value < best

    def _unscored(self) -> TrialFailure | None:
        """Tells that nothing could be scored."""
        if not self.state.history or self.best:
            return None
        reason = (
            f"{self.score_name} is not defined on the validation cases: neither their truth nor a "
            "prediction has a foreground class"
        )
        return TrialFailure("failed", reason)

    # --- results and checkpoints ----------------------------------------------------------

    def result(self, failure: TrialFailure | None) -> Fit:
        """Returns what there is so far."""
        now = self.state
        return Fit(
            history=tuple(now.history),
            best_step=now.best_step,
            metrics=now.best_metrics,
            state=self.best,
            failure=failure,
            stopped=self.stopped,
            steps=now.step,
            training_s=now.training_s,
            validation_s=now.validation_s,
        )

    def _weights(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def _parts(self) -> Parts:
        step = self.step
        return Parts(self.module, step.optimizer, step.scaler, self.patches, self.losses)

    def _save(self) -> None:
        if self.path is not None:
            write(self.path, self.state, self._parts(), self.best)

    def _resume(self) -> None:
        if self.path is not None:
            found = read(self.path, self.state.identity, self._parts())
            if found is not None:
                self.state, self.best = found


def _moved(module: nn.Module, device: Device, layout: torch.memory_format | None) -> nn.Module:
    module = module.to(device)
    return module if layout is None else module.to(memory_format=layout)  # type: ignore[call-overload]
