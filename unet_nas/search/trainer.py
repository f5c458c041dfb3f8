"""The evaluator that trains: data in memory, a network built, fitted, scored and measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from unet_nas.audit.memory import Device
from unet_nas.profile.counts import count
from unet_nas.profile.foreign import load_foreign
from unet_nas.profile.job import Job as ProfileJob
from unet_nas.profile.timing import measure_latency
from unet_nas.profile.worker import conditions
from unet_nas.profile.workload import Workload
from unet_nas.records import Profile
from unet_nas.search.evaluate import Job, OnPoint, Outcome
from unet_nas.search.folder import CHECKPOINT
from unet_nas.train.checkpoint import CheckpointError
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Dataset, Task
from unet_nas.train.examples import examples
from unet_nas.train.failures import beyond_device, is_out_of_memory, out_of_memory
from unet_nas.train.loop import Fit, fit
from unet_nas.train.metrics import Tolerances, score
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build

__all__ = ["Trainer"]

WEIGHTS = "weights.safetensors"
EXAMPLES = "examples.npz"
LATENCY_REPEATS = 20
LATENCY_WARMUP = 3


class Trainer:
    """Trains candidates on data in memory.

    Args:
        data: the cases.
        device: where it trains.
        score_name: the accuracy that chooses the best weights.
        metrics: others that objectives ask for.
        latency: measure the time of a forward pass of one patch.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        device: Device,
        score_name: str,
        metrics: Sequence[str] = (),
        latency: bool = False,
    ) -> None:
        self.data, self.device = data, device
        self.score_name, self.metrics, self.latency = score_name, tuple(metrics), latency

    @property
    def task(self) -> Task:
        """What the data ask of a network."""
        return self.data.task

    @property
    def summary(self) -> dict[str, Any]:
        """What the data are."""
        return self.data.summary

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people."""
        return self.data.notes

    @property
    def device_name(self) -> str:
        """``cpu`` or ``cuda``, with its name."""
        if self.device == "cuda":
            return f"cuda ({torch.cuda.get_device_name()})"
        return f"cpu ({torch.get_num_threads()} threads)"

    @property
    def has_test_cases(self) -> bool:
        """Whether finalists can be scored."""
        return bool(self.data.test)

    def evaluate(self, job: Job, on_point: OnPoint) -> Outcome:
        """Builds, trains, scores and measures a network."""
        config = TrainConfig.model_validate(job.train)
        failure = beyond_device(job.costs.get("training_memory", 0), self.device)
        if failure is not None:
            return Outcome("failed", failure=failure)
        try:
            with torch.random.fork_rng(self._cuda_devices()):
                torch.manual_seed(job.seed)
                module, costs = self._network(job, config)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return Outcome("failed", failure=out_of_memory(error, "in building"))
        fitted = self._fit(module, config, job, on_point)
        return self._outcome(job, config, module, fitted, costs)

    def _fit(self, module: nn.Module, config: TrainConfig, job: Job, on_point: OnPoint) -> Fit:
        """Trains; baselines and finalists, which are no trials of Optuna, go on after a kill."""
        checkpoint = None if job.kind == "trial" else job.folder / CHECKPOINT
        train = partial(
            fit,
            module,
            self.data,
            config,
            seed=job.seed,
            device=self.device,
            score_name=self.score_name,
            metrics=self.metrics,
            on_point=on_point,
            checkpoint=checkpoint,
        )
        try:
            return train()
        except CheckpointError:  # of another train section or other data: it is of no use
            assert checkpoint is not None, "only a checkpoint raises it"
            checkpoint.unlink()
            return train()

    def _cuda_devices(self) -> list[int]:
        return [torch.cuda.current_device()] if self.device == "cuda" else []

    def _network(self, job: Job, config: TrainConfig) -> tuple[nn.Module, dict[str, float]]:
        """Returns the module, and the costs of one of somebody else's, which are counted."""
        if job.architecture is not None:
            architecture = Architecture.model_validate(job.architecture)
            return build(architecture, checkpoint=config.checkpoint, inplace=config.in_place), {}
        module = load_foreign(job.network)
        counts = count(module, self._patch(config))
        costs = {"parameters": float(counts.trainable_parameters)}
        return module, costs if counts.macs is None else {**costs, "macs": float(counts.macs)}

    def _patch(self, config: TrainConfig) -> torch.Tensor:
        return torch.zeros(1, self.task.in_channels, *self._size(config))

    def _outcome(
        self, job: Job, config: TrainConfig, module: nn.Module, fitted: Fit, costs: dict[str, float]
    ) -> Outcome:
        test: dict[str, float] = {}
        validation_s = fitted.validation_s
        whole = fitted.failure is None and not fitted.stopped
        if whole and job.kind == "finalist":
            start = perf_counter()
            test = self._test_scores(module, config)
            validation_s += perf_counter() - start
        start = perf_counter()
        profile = self._profile(job, config, module) if whole and self.latency else None
        latency = profile.latency("inference") if profile else None
        if latency is not None:
            costs = {**costs, "latency": latency.median_ms}
        state = "failed" if fitted.failure else "pruned" if fitted.stopped else "complete"
        return Outcome(
            state=state,  # type: ignore[arg-type]
            metrics=fitted.metrics,
            test=test,
            failure=fitted.failure,
            history=fitted.history,
            best_step=fitted.best_step,
            costs=costs,
            profile=profile,
            files=self._files(job, config, module, fitted),
            training_s=fitted.training_s,
            validation_s=validation_s,
            profiling_s=perf_counter() - start,
            interrupted=fitted.interrupted,
        )

    def _files(
        self, job: Job, config: TrainConfig, module: nn.Module, fitted: Fit
    ) -> dict[str, bytes]:
        """Returns the weights and, of what ended well, a few cases with their prediction."""
        if not fitted.state:
            return {}
        files = {WEIGHTS: save(fitted.state)}
        if fitted.failure is None:
            buffer = BytesIO()
            cases = self.data.test if job.kind == "finalist" else self.data.validation
            found = examples(
                module,
                cases,
                self.task,
                patch_size=self._size(config),
                device=self.device,
                precision=config.training(self.device).precision,
            )
            np.savez_compressed(buffer, **found)  # type: ignore[arg-type]
            files[EXAMPLES] = buffer.getvalue()
        return files

    def _size(self, config: TrainConfig) -> tuple[int, ...]:
        size = config.size(self.task.spatial_dims)
        assert size is not None, "a study has a patch size"
        return size

    def _test_scores(self, module: nn.Module, config: TrainConfig) -> dict[str, float]:
        return score(
            module,
            self.data.test,
            self.task,
            patch_size=self._size(config),
            metrics=[self.score_name, *self.metrics],
            tolerances=Tolerances.of(config),
            device=self.device,
            precision=config.training(self.device).precision,
        )

    def _profile(self, job: Job, config: TrainConfig, module: nn.Module) -> Profile:
        """Measures the latency of one patch, in this process."""
        training = config.training(self.device)
        inputs = self._patch(config).to(self.device)
        measured = ProfileJob(
            network=job.network,
            architecture=None if job.architecture is None else json.dumps(job.architecture),
            patch_size=tuple(inputs.shape[2:]),
            batch_size=1,
            in_channels=self.task.in_channels,
            training=training,
            device=self.device,
            parts=("inference_latency",),
        )
        module.eval()
        latency = measure_latency(
            Workload(module, inputs, training).infer,
            "inference",
            device=self.device,
            repeats=LATENCY_REPEATS,
            warmup=LATENCY_WARMUP,
        )
        return Profile(job.name, conditions(measured, self.task.in_channels), latencies=(latency,))
