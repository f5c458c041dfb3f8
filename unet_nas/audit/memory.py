"""Static peak memory: one eager training step, or inference, played through before any tensor.

The graph is played on the simulated process of `operators.eager`, node by node in the order of
the module that `unet.build` makes, then the loss, backward and the optimizer. The figures count
*tensors*: what PyTorch's allocator hands out, without blocks that live inside one ATen operator
(library workspaces), allocator rounding, and the CUDA context. On a CPU and on CUDA they equal the
allocator's own count to the byte (``benchmarks/memory_exactness.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal, get_args

from unet_nas.errors import InputError
from unet_nas.operators import optimizer as optimizers
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.operators.eager import (
    Eager,
    Frame,
    Kind,
    Storage,
    Tensor,
)
from unet_nas.operators.loss import Loss, LossKind
from unet_nas.operators.optimizer import Implementation, OptimizerKind
from unet_nas.operators.tape import (
    TAPE,
    Mode,
    Site,
    buffer_elements,
    weight_elements,
)
from unet_nas.unet.shapes import Size, shapes
from unet_nas.unet.stages import checkpoint_units, inplace_nodes

Precision = Literal["fp32", "bf16", "fp16", "pure-bf16", "pure-fp16"]
Device = Literal["cpu", "cuda"]
Phase = Literal["forward", "loss", "backward", "recompute", "optimizer"]

#: of the batches that a batch norm has seen
COUNTER_BYTES = 8
_INDEX_BYTES = 8
_LABEL_BYTES = 4
_WEIGHT_BYTES = 4
#: ``torch.get_rng_state()``, which checkpointing keeps
_RANDOM_STATE_BYTES = 5056


#: the words that the options of a training step take
_WORDS: dict[str, tuple[str, ...]] = {
    "precision": get_args(Precision),
    "optimizer": get_args(OptimizerKind),
    "implementation": get_args(Implementation),
    "loss": get_args(LossKind),
    "device": get_args(Device),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a training step runs; the defaults are those of `unet_nas.train`.

    Attributes:
        precision: ``fp32``, autocast to ``bf16`` or ``fp16``, or ``pure-…``: weights and data too.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        momentum: Whether SGD keeps a momentum buffer.
        nesterov: Whether SGD's momentum is Nesterov's.
        weight_decay: Whether it is not zero (SGD and Adam then copy gradients).
        implementation: The optimizer's: ``single`` tensor (PyTorch's default on a CPU),
            ``foreach`` (its default on CUDA) or ``fused``.
        loss: Which loss.
        ignore_label: Whether positions of the target are left out of the loss.
        class_weights: Whether its cross-entropy is weighted.
        multi_label: Whether labels may overlap (sigmoid instead of softmax).
        set_to_none: Whether ``zero_grad`` frees the gradients.
        in_place: Whether activations overwrite their input where that is safe.
        checkpoint: Units recomputed in backward, as `unet_nas.unet.build` takes them.
        device: Whose operators: ``cpu`` or ``cuda`` (for its allocator see `audit.cuda`).
    """

    precision: Precision = "fp32"
    optimizer: OptimizerKind = "adamw"
    momentum: bool = True
    nesterov: bool = False
    weight_decay: bool = True
    implementation: Implementation = "single"
    loss: LossKind = "dice_cross_entropy"
    ignore_label: bool = False
    class_weights: bool = False
    multi_label: bool = False
    set_to_none: bool = True
    in_place: bool = False
    checkpoint: tuple[str, ...] = ()
    device: Device = "cpu"

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                rule = f"{name} must be one of {', '.join(words)}"
                raise InputError(f"{rule}, got {getattr(self, name)!r}")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise InputError("nesterov needs the optimizer sgd with momentum")

    @property
    def loss_text(self) -> str:
        """The loss with its options.

        >>> Training(class_weights=True).loss_text
        'dice_cross_entropy (class weights)'
        """
        options = {
            "multi-label": self.multi_label,
            "class weights": self.class_weights,
            "ignore label": self.ignore_label,
        }
        given = ", ".join(word for word, wanted in options.items() if wanted)
        return f"{self.loss} ({given})" if given else self.loss


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a step or an inference.

    Attributes:
        peak_bytes: Most bytes of tensors alive at once.
        node: Name of the node at work at the peak.
        phase: ``forward``, ``loss``, ``backward`` or ``optimizer``.
        breakdown: Bytes at the peak by what they are; they add up to ``peak_bytes``.
        live_bytes: Bytes alive after each allocation or release.
        visits: ``(position in live_bytes, node, phase)`` at each change of node.
        storages: Every block, with the positions in ``live_bytes`` between which it lived.
    """

    peak_bytes: int
    node: str
    phase: str
    breakdown: dict[str, int]
    live_bytes: list[int] = field(repr=False)
    visits: list[tuple[int, str, str]] = field(repr=False)
    storages: list[Storage] = field(repr=False)


def training_memory(
    graph: Graph,
    patch_size: Sequence[int],
    batch_size: int,
    training: Training | None = None,
    *,
    sizes: Sequence[Size] | None = None,
) -> Memory:
    """Returns the memory of one training step in the steady state (the second and later).

    Args:
        graph: The network.
        patch_size: Spatial size of the input.
        batch_size: Samples.
        training: How the step runs.
        sizes: Of every node, where they are known already.
    """
    options = training or Training()
    sizes = sizes or shapes(graph, patch_size)
    run = _Run(graph, sizes, batch_size, options.precision, training=True, device=options.device)
    eager = run.eager
    run.cut(options)
    _make_training_state(run, options)
    target = _target(run, options)
    weights = (
        eager.new(_classes(graph), _WEIGHT_BYTES, "buffers") if options.class_weights else None
    )
    loss = _loss(run, options, run.forward(), target, weights)
    run.leave_autocast()
    if loss.function is not None:
        eager.visit(graph.outputs[0], "backward")
        eager.backward(loss.function)
    eager.visit(graph.outputs[0], "optimizer")
    optimizers.step(
        eager,
        options.optimizer,
        options.implementation,
        run.parameters(ordered=options.implementation == "single"),
        weight_decay=options.weight_decay,
        momentum=options.momentum,
        nesterov=options.nesterov,
    )
    return _memory(run)


def _make_training_state(run: _Run, options: Training) -> None:
    """Makes what lives across steps: optimizer state, and gradients where they stay."""
    eager, parameters = run.eager, run.parameters()
    eager.leaves(parameters, not options.set_to_none)
    if not options.set_to_none:
        eager.new(sum([parameter.elements for parameter in parameters]), run.width, "gradients")
    optimizers.make_state(
        eager, options.optimizer, options.implementation, parameters, momentum=options.momentum
    )


def inference_memory(
    graph: Graph,
    patch_size: Sequence[int],
    batch_size: int,
    precision: Precision = "fp32",
    *,
    in_place: bool = False,
    device: Device = "cpu",
    sizes: Sequence[Size] | None = None,
) -> Memory:
    """Returns the memory of one forward pass in evaluation mode without gradients."""
    sizes = sizes or shapes(graph, patch_size)
    run = _Run(graph, sizes, batch_size, precision, training=False, device=device)
    run.cut(Training(in_place=in_place))
    run.forward()
    return _memory(run)


def _classes(graph: Graph) -> int:
    return graph.nodes[graph.outputs[0]].channels


def _target(run: _Run, options: Training) -> Tensor:
    """Makes the target: class indices, or a number per label."""
    positions = run.mode.batch * prod(run.sizes[run.graph.outputs[0]])
    if options.multi_label:
        return run.eager.new(positions * _classes(run.graph), _LABEL_BYTES, "input")
    return run.eager.new(positions, _INDEX_BYTES, "input")


def _loss(
    run: _Run,
    options: Training,
    outputs: Sequence[Tensor],
    target: Tensor,
    weights: Tensor | None,
) -> Tensor:
    graph, eager = run.graph, run.eager
    eager.visit(graph.outputs[0], "loss")
    loss = Loss(
        eager,
        options.loss,
        _classes(graph),
        ignores=options.ignore_label,
        weights=weights,
        multi_label=options.multi_label,
    ).forward(outputs, [run.sizes[i] for i in graph.outputs], target)
    for output in outputs:
        eager.drop(output)
    return loss


class _Run:
    """A graph set up on a simulated process, ready to play."""

    def __init__(
        self,
        graph: Graph,
        sizes: Sequence[Size],
        batch: int,
        precision: Precision,
        *,
        training: bool,
        device: Device,
    ) -> None:
        self.graph = graph
        self.eager = Eager(grad=training, device=device, bfloat16=precision.endswith("bf16"))
        autocast = 2 if precision in ("bf16", "fp16") else None
        self.width = 2 if precision.startswith("pure") else 4
        self.mode = Mode(batch, training, autocast, device)
        self.sizes = sizes
        self.sites = [self._site(i) for i in range(len(graph.nodes))]
        self._place_state()
        self.segments: list[tuple[range, bool]] = [(range(1, len(graph.nodes)), False)]
        self.last = _last_readers(graph)

    def _site(self, index: int) -> Site:
        node = self.graph.nodes[index]
        sizes = self.sizes
        return Site(
            node.primitive,
            tuple([sizes[i] for i in node.inputs]),
            sizes[index],
            self.mode.batch * node.channels * prod(sizes[index]),
            self.graph.nodes[node.inputs[0]].channels if node.inputs else 0,
        )

    def _place_state(self) -> None:
        """Gives every site its weights and buffers: two blocks hold all of them."""
        weights = [weight_elements(site.primitive) for site in self.sites]
        buffers = [buffer_elements(site.primitive) for site in self.sites]
        counters = sum([isinstance(site.primitive, p.BatchNorm) for site in self.sites])
        block = self._block(weights, 0, "parameters")
        other = self._block(buffers, counters * COUNTER_BYTES, "buffers")
        for site, own, fixed in zip(self.sites, weights, buffers, strict=True):
            site.weights = tuple([Tensor(block, count, self.width) for count in own])
            site.buffers = tuple([Tensor(other, count, self.width) for count in fixed])

    def _block(self, elements: Sequence[Sequence[int]], extra_bytes: int, kind: Kind) -> Storage:
        size_bytes = self.width * sum([sum(counts) for counts in elements]) + extra_bytes
        return self.eager.new(size_bytes, 1, kind).storage

    def parameters(self, *, ordered: bool = False) -> list[Tensor]:
        """Returns all parameters; ``ordered`` as ``module.parameters()`` does."""
        order: Sequence[int] = range(len(self.sites))
        if ordered:
            order = _module_order([node.name for node in self.graph.nodes])
        return [weight for index in order for weight in self.sites[index].weights]

    def cut(self, options: Training) -> None:
        """Applies checkpointing and in-place activations."""
        graph = self.graph
        recomputed = checkpoint_units(graph, options.checkpoint) if options.checkpoint else []
        self.segments = _segments(len(self.sites), recomputed)
        if options.in_place:
            for index in inplace_nodes(graph, recomputed):
                source = graph.nodes[graph.nodes[index].inputs[0]]
                self.sites[index].in_place = True
                self.sites[index].on_view = isinstance(source.primitive, p.InstanceNorm)

    def forward(self) -> list[Tensor]:
        """Plays all nodes, freeing each map after its last reader; returns the outputs."""
        graph, eager = self.graph, self.eager
        slots: dict[int, Tensor] = {0: eager.new(self.sites[0].elements, self.width, "input")}
        for nodes, recompute in self.segments:
            if recompute:
                self._checkpointed(nodes, slots)
            else:
                self._play(nodes, slots, self.mode, "forward")
        outputs = [slots[i] for i in graph.outputs]
        for index, tensor in slots.items():
            if index and index not in graph.outputs:
                eager.drop(tensor)
        return outputs

    def leave_autocast(self) -> None:
        """Lets go of the converted weights."""
        for cast in self.mode.casts.values():
            self.eager.drop(cast)
        self.mode.casts.clear()

    def _play(self, nodes: range, slots: dict[int, Tensor], mode: Mode, phase: Phase) -> None:
        """Plays nodes over named maps, and drops each after its last reader among them."""
        eager, graph = self.eager, self.graph.nodes
        for index in nodes:
            site = self.sites[index]
            inputs = [slots[i] for i in graph[index].inputs]
            eager.visit(index, phase)
            slots[index] = TAPE[type(site.primitive)](eager, mode, site, inputs)
            for i in self.last[index]:
                if i in slots and not eager.muted:
                    eager.drop(slots.pop(i))

    def _checkpointed(self, nodes: range, slots: dict[int, Tensor]) -> None:
        """Plays a unit whose saved tensors are thrown away, and keeps what enters it."""
        eager = self.eager
        read = dict.fromkeys(i for n in nodes for i in self.graph.nodes[n].inputs if i not in nodes)
        frame = Frame(lambda frame: self._again(frame, nodes, list(read)))
        frame.entries = [eager.view(slots[i]) for i in read]
        random_state = eager.new_on_cpu(_RANDOM_STATE_BYTES)
        inner = {i: eager.view(slots[i]) for i in read}
        for i in read:
            if any(i in self.last[n] for n in nodes):
                eager.drop(slots.pop(i))
        eager.frame = frame
        self._play(nodes, inner, self.mode, "forward")
        eager.frame = None
        for i, tensor in inner.items():
            if i in nodes:
                slots[i] = tensor
            else:
                eager.drop(tensor)
        frame.entries.append(random_state)
        if not frame.pending:
            for tensor in frame.entries:
                eager.drop(tensor)

    def _again(self, frame: Frame, nodes: range, read: Sequence[int]) -> None:
        """Plays a unit a second time, until all that it saves is there again."""
        eager = self.eager
        place = eager.place
        random_state = eager.new_on_cpu(_RANDOM_STATE_BYTES)
        mode = replace(self.mode, casts={})
        slots = dict(zip(read, map(eager.view, frame.entries), strict=False))
        eager.frame = frame
        self._play(nodes, slots, mode, "recompute")
        eager.frame = None
        eager.muted = False
        if any(isinstance(self.sites[i].primitive, p.BatchNorm) for i in nodes):
            eager.drop(eager.new_on_cpu(COUNTER_BYTES))
        for tensor in (*slots.values(), *mode.casts.values(), random_state):
            eager.drop(tensor)
        eager.visit(place, "backward")


def _segments(count: int, units: Sequence[range]) -> list[tuple[range, bool]]:
    """Cuts the nodes into stretches that are played plainly and units that are recomputed."""
    segments: list[tuple[range, bool]] = []
    start = 1
    for unit in units:
        segments += [(range(start, unit.start), False), (unit, True)]
        start = unit.stop
    return [*segments, (range(start, count), False)]


def _module_order(names: Sequence[str]) -> list[int]:
    """Returns the nodes in the order in which a module tree of these names is walked."""
    seen: dict[str, int] = {}
    keys: list[tuple[int, ...]] = []
    for name in names:
        key = []
        end = name.find(".")
        while end >= 0:
            key.append(seen.setdefault(name[:end], len(seen)))
            end = name.find(".", end + 1)
        key.append(seen.setdefault(name, len(seen)))
        keys.append(tuple(key))
    return sorted(range(len(names)), key=keys.__getitem__)


def _last_readers(graph: Graph) -> list[list[int]]:
    """Returns for each node the nodes whose output it is the last to read."""
    last: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        for i in node.inputs:
            last[i] = index
    freed: list[list[int]] = [[] for _ in graph.nodes]
    for source, reader in last.items():
        if source and source not in graph.outputs:
            freed[reader].append(source)
    return freed


def _memory(run: _Run) -> Memory:
    eager = run.eager
    peak = max(eager.timeline)
    position = eager.timeline.index(peak)
    names = [node.name for node in run.graph.nodes]
    visits = [(start, names[place], phase) for start, place, phase in eager.visits]
    _, node, phase = max(v for v in visits if v[0] <= position)
    breakdown = _breakdown(eager.storages, position, peak)
    return Memory(peak, node, phase, breakdown, eager.timeline, visits, eager.storages)


def _breakdown(storages: Sequence[Storage], position: int, peak_bytes: int) -> dict[str, int]:
    """Sums what is alive at a position by kind.

    Saved tensors are those kept for backward; temporaries are all the rest.
    """
    sums = dict.fromkeys(
        ("parameters", "buffers", "gradients", "optimizer", "input", "saved", "temporaries"), 0
    )
    for storage in storages:
        if storage.born <= position < storage.died:
            kind: str = storage.kind
            if kind == "temporaries" and storage.saved_from <= position < storage.saved_until:
                kind = "saved"
            sums[kind] += storage.size_bytes
    sums["temporaries"] += peak_bytes - sum(sums.values())
    return sums
