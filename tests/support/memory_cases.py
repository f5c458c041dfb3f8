"""Random networks with random ways of running them, and their memory as it really is.

Networks come from :mod:`tests.support.draw`; what is drawn here is how a step runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import torch

from tests.support.draw import draw_case
from unet_nas.audit.memory import Device, Training, inference_memory, training_memory
from unet_nas.errors import SizeError
from unet_nas.operators.builder import Graph
from unet_nas.profile.memory import MeasuredPeak, inference_peak, training_peaks
from unet_nas.profile.workload import make_criterion, make_target
from unet_nas.unet.build import build
from unet_nas.unet.shapes import Size, shapes
from unet_nas.unet.stages import units

DTYPES = {"pure-bf16": torch.bfloat16, "pure-fp16": torch.float16}
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class MemoryCase:
    """A network, an input, and how it runs."""

    seed: int
    graph: Graph
    size: Size
    batch: int
    training: Training


def draw_memory_case(seed: int, *, plain_loss: bool = False, device: Device = "cpu") -> MemoryCase:
    """Returns a case that fits: the same one for the same seed.

    Args:
        seed: Of the case.
        plain_loss: Whether the loss has no options.
        device: Where it runs.
    """
    rng = Random(seed)
    while True:
        case = draw_case(rng)
        if case.graph is None or not _runs(case.graph, case.size, case.batch):
            continue
        training = draw_training(rng, case.graph)
        if not plain_loss:
            training = draw_loss(rng, training)
        training = replace(training, device=device)
        return MemoryCase(seed, case.graph, case.size, case.batch, training)


def draw_training(rng: Random, graph: Graph) -> Training:
    """Returns a way to run a training step."""
    names = list(units(graph))
    optimizer = rng.choice(("sgd", "adam", "adamw"))
    momentum = rng.random() < 0.6
    checkpoint = rng.sample(names, rng.randint(1, len(names))) if names else []
    return Training(
        precision=rng.choice(("fp32", "fp32", "bf16", "bf16", "fp16", "pure-bf16", "pure-fp16")),
        optimizer=optimizer,
        momentum=momentum,
        nesterov=momentum and rng.random() < 0.4 and optimizer == "sgd",
        weight_decay=rng.random() < 0.5,
        implementation=rng.choice(("single", "foreach", "fused")),
        loss=rng.choice(("cross_entropy", "dice_cross_entropy")),
        set_to_none=rng.random() < 0.7,
        in_place=rng.random() < 0.4,
        checkpoint=tuple(checkpoint) if rng.random() < 0.3 else (),
    )


def draw_loss(rng: Random, training: Training) -> Training:
    """Returns the same step with options of the loss."""
    return replace(
        training,
        ignore_label=rng.random() < 0.5,
        class_weights=rng.random() < 0.4,
        multi_label=rng.random() < 0.4,
    )


def _runs(graph: Graph, size: Size, batch: int) -> bool:
    try:
        sizes = shapes(graph, size)
    except SizeError:
        return False
    for node, spatial in zip(graph.nodes, sizes, strict=True):
        positions = 1
        for n in spatial:
            positions *= n
        if node.primitive.single_value(batch, node.channels, positions, True):
            return False
    return True


def measured_training(case: MemoryCase) -> MeasuredPeak:
    """Returns the real memory of the second training step of a case."""
    options = case.training
    module = build(case.graph, inplace=options.in_place, checkpoint=options.checkpoint)
    dtype = DTYPES.get(options.precision, torch.float32)
    module.to(options.device, dtype)
    extra = (
        {}
        if options.optimizer != "sgd"
        else {
            "momentum": 0.9 if options.momentum else 0.0,
            "nesterov": options.nesterov,
        }
    )
    optimizer = OPTIMIZERS[options.optimizer](
        module.parameters(),
        lr=1e-3,
        weight_decay=1e-2 if options.weight_decay else 0.0,
        foreach=options.implementation == "foreach",
        fused=options.implementation == "fused",
        **extra,
    )
    size = shapes(case.graph, case.size)[case.graph.outputs[0]]
    classes = case.graph.nodes[case.graph.outputs[0]].channels
    _, second = training_peaks(
        module,
        make_criterion(classes, options).to(options.device),
        optimizer,
        _inputs(case, dtype),
        make_target((case.batch, classes, *size), options).to(options.device),
        autocast=options.precision if options.precision in ("bf16", "fp16") else None,
        set_to_none=options.set_to_none,
    )
    return second


def measured_inference(case: MemoryCase) -> MeasuredPeak:
    """Returns the real memory of one forward pass of a case."""
    options = case.training
    dtype = DTYPES.get(options.precision, torch.float32)
    module = build(case.graph, inplace=options.in_place).to(options.device, dtype)
    return inference_peak(
        module,
        _inputs(case, dtype),
        autocast=options.precision if options.precision in ("bf16", "fp16") else None,
    )


def _inputs(case: MemoryCase, dtype: torch.dtype) -> torch.Tensor:
    shape = (case.batch, case.graph.nodes[0].channels, *case.size)
    return torch.randn(shape, dtype=dtype, device=case.training.device)


def predicted(case: MemoryCase) -> tuple[int, int]:
    """Returns the static peaks of training and inference."""
    options = case.training
    training = training_memory(case.graph, case.size, case.batch, options)
    inference = inference_memory(
        case.graph,
        case.size,
        case.batch,
        options.precision,
        in_place=options.in_place,
        device=options.device,
    )
    return training.peak_bytes, inference.peak_bytes
