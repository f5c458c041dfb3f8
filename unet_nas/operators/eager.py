"""A simulation of the memory of eager PyTorch: storages, autograd functions and its engine.

Nothing here knows a network or a primitive. A :class:`Storage` lives as long as it has owners
(a name in the forward loop, a function that saved it, a gradient under way); the running sum of
what lives is the memory. The engine walks the recorded functions as PyTorch's does: the most
recent first, each freeing its incoming gradient and its saved tensors before its results are
accumulated; two gradients that meet are added in place only where the older one covers its
storage and nobody else owns that. Sources: ``engine.cpp``, ``input_buffer.cpp`` and
``functions/accumulate_grad.h`` in ``torch/csrc/autograd`` of PyTorch 2.13, and the measurements
in ``docs/memory.md``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Literal

Kind = Literal["parameters", "buffers", "gradients", "optimizer", "input", "temporaries"]

#: the position at which what is still alive would die
ALIVE = 1 << 60
#: the order of the functions that accumulate into a parameter's gradient
_LEAF = -1


class Storage:
    """A block of memory, who owns it, and when it lived (positions in the timeline)."""

    # class attributes, not slots: most storages are never saved, and making one stays cheap
    owners = 1
    saves = 0
    died = ALIVE
    saved_from = ALIVE
    saved_until = ALIVE

    def __init__(self, size_bytes: int, kind: Kind, born: int, place: int) -> None:
        self.size_bytes = size_bytes
        self.kind: Kind = kind
        self.born = born
        self.place = place


class Tensor:
    """A view of a storage: its elements, their width, whether contiguous, its gradient function."""

    __slots__ = ("contiguous", "elements", "function", "itemsize", "storage")

    def __init__(
        self,
        storage: Storage,
        elements: int,
        itemsize: int,
        function: Function | None = None,
        contiguous: bool = True,
    ) -> None:
        self.storage = storage
        self.elements = elements
        self.itemsize = itemsize
        self.function = function
        self.contiguous = contiguous

    def whole(self) -> bool:
        """Whether it covers its storage."""
        return self.elements * self.itemsize == self.storage.size_bytes


#: what a function returns for its inputs: a gradient each, or None where none is wanted
Gradients = Sequence["Tensor | None"]
#: computes the gradients of a function from that of its result
Rule = Callable[["Eager", "Function", Tensor], Gradients]


class Function:
    """A node of the autograd graph: where its gradients go, what it saved, how it computes."""

    __slots__ = ("awaited", "edges", "frame", "late", "order", "packs", "place", "received", "rule",
                 "saved", "wants")  # fmt: skip

    def __init__(
        self,
        order: int,
        place: int,
        edges: tuple[Function | None, ...],
        saved: tuple[Storage, ...],
        rule: Rule,
        wants: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.order = order
        self.place = place
        self.edges = edges
        self.wants = wants
        self.saved = saved
        self.rule = rule
        self.late = False
        self.received: Tensor | None = None
        self.awaited = 0
        self.frame: Frame | None = None
        self.packs = (0, 0)


class Frame:
    """A checkpointed segment: what it saved is thrown away, and made again in backward.

    As ``torch.utils.checkpoint`` without reentrance does it: the inputs of the segment and the
    state of the random number generator are kept until its last function is done; the first
    function to ask for a saved tensor runs the segment again, up to the last tensor saved.

    Attributes:
        again: Runs the segment once more and lets go of all it made.
        entries: Inputs of the segment, and the random state.
        packed: Saved tensors met in this run.
        total: Saved tensors of the first run.
        pending: Functions with saved tensors that have not run yet.
        taken: The tensors saved by the second run.
        running: Whether the second run is under way.
    """

    __slots__ = ("again", "entries", "packed", "pending", "running", "taken", "total")

    def __init__(self, again: Callable[[Frame], None]) -> None:
        self.again = again
        self.entries: list[Tensor] = []
        self.packed = 0
        self.total = 0
        self.pending = 0
        self.taken: list[Storage] = []
        self.running = False

    def pack(self, eager: Eager, function: Function, storages: Sequence[Storage]) -> None:
        """Notes what a function saved: its place in the first run, the tensors in the second."""
        start = self.packed
        self.packed += len(storages)
        if not self.running:
            self.total = self.packed
            function.packs = (start, self.packed)
            function.frame = self
            self.pending += bool(storages)
            return
        for storage in storages:
            eager.keep(storage)
            self.taken.append(storage)
        eager.muted = self.packed == self.total

    def unpack(self, function: Function) -> tuple[Storage, ...]:
        """Returns the saved tensors of a function, after the second run where it is due."""
        start, stop = function.packs
        if start == stop:
            return ()
        if not self.taken:
            self.running, self.packed = True, 0
            self.again(self)
            self.running = False
        return tuple(self.taken[start:stop])


class Eager:
    """The state of the simulated process.

    Attributes:
        live_bytes: What is allocated now.
        timeline: ``live_bytes`` after each allocation or release.
        storages: All storages ever made.
        place: The node at work, recorded with storages and functions.
        visits: ``(position in the timeline, place, backward?)`` at each change of place.
        grad: Whether functions are recorded.
        device: Whose memory is counted; what PyTorch keeps on the CPU beside a GPU is not.
        bfloat16: Whether numbers of two bytes are bfloat16, and not float16.
        frame: The checkpointed segment that is running, if any.
        muted: Whether a recomputation has all it needs: the real one stops here, this one plays
            on without memory.
    """

    def __init__(self, *, grad: bool, device: str = "cpu", bfloat16: bool = False) -> None:
        self.live_bytes = 0
        self.timeline: list[int] = []
        self.storages: list[Storage] = []
        self.visits: list[tuple[int, int, str]] = []
        self.place = 0
        self.grad = grad
        self.device = device
        self.bfloat16 = bfloat16
        self.frame: Frame | None = None
        self.muted = False
        self._order = 0

    def visit(self, place: int, phase: str) -> None:
        """Notes that node ``place`` is at work from here on."""
        self.place = place
        self.visits.append((len(self.timeline), place, phase))

    # storages -------------------------------------------------------------------------------

    def on_cpu(self, size_bytes: int) -> int:
        """Returns what counts of bytes that lie on the CPU wherever the network runs."""
        return size_bytes if self.device == "cpu" else 0

    def new_on_cpu(self, size_bytes: int) -> Tensor:
        """Allocates a tensor of one element that lies on the CPU wherever the network runs."""
        return self.new(1, self.on_cpu(size_bytes))

    def new(
        self, elements: int, itemsize: int, kind: Kind = "temporaries", contiguous: bool = True
    ) -> Tensor:
        """Allocates a tensor with one owner."""
        timeline = self.timeline
        size_bytes = 0 if self.muted else elements * itemsize
        storage = Storage(size_bytes, kind, len(timeline), self.place)
        self.storages.append(storage)
        self.live_bytes += size_bytes
        timeline.append(self.live_bytes)
        return Tensor(storage, elements, itemsize, None, contiguous)

    def drop(self, tensor: Tensor) -> None:
        """Takes one owner from a tensor's storage."""
        self._disown(tensor.storage)

    def _disown(self, storage: Storage) -> None:
        storage.owners -= 1
        if not storage.owners:
            storage.died = len(self.timeline)
            self.live_bytes -= storage.size_bytes
            self.timeline.append(self.live_bytes)

    def spike(self, size_bytes: int) -> None:
        """Allocates so much and releases it at once."""
        self.timeline.append(self.live_bytes + size_bytes)
        self.timeline.append(self.live_bytes)

    def view(self, tensor: Tensor, elements: int | None = None, contiguous: bool = True) -> Tensor:
        """Makes another tensor over the same storage, with one owner more."""
        storage = tensor.storage
        storage.owners += 1
        count = tensor.elements if elements is None else elements
        return Tensor(
            storage, count, tensor.itemsize, tensor.function, contiguous and tensor.contiguous
        )

    # autograd -------------------------------------------------------------------------------

    def record(
        self,
        out: Tensor,
        inputs: Sequence[Tensor],
        saved: Sequence[Tensor] = (),
        rule: Rule | None = None,
        *,
        late: bool = False,
    ) -> None:
        """Records the function that made ``out``, if any of its inputs wants a gradient.

        ``late``: its rule allocates before it asks for what was saved, and asks by itself.
        """
        if not self.grad:
            return
        edges = tuple([tensor.function for tensor in inputs])
        out.function = None
        if edges.count(None) == len(edges):
            return
        storages = tuple([tensor.storage for tensor in saved])
        wants = tuple([(tensor.elements, tensor.itemsize) for tensor in inputs])
        self._order += 1
        function = Function(self._order, self.place, edges, storages, rule or fresh, wants)
        function.late = late
        out.function = function
        if self.frame is not None:
            function.saved = ()
            self.frame.pack(self, function, storages)
            return
        for storage in storages:
            self.keep(storage)

    def saving(self, inputs: Sequence[Tensor], saved: int) -> None:
        """Says before an operator runs how many inputs it saves: a recomputation may end here."""
        if self.frame is not None and any(tensor.function is not None for tensor in inputs):
            self.muted |= self.ends(saved)

    def ends(self, saved: int) -> bool:
        """Whether a recomputation ends with the operator at hand, which saves so many tensors.

        Its other results then never get out of it: they are a workspace.
        """
        frame = self.frame
        return frame is not None and frame.running and frame.packed + saved >= frame.total

    def keep(self, storage: Storage) -> None:
        """Makes backward an owner of a storage."""
        storage.owners += 1
        storage.saves += 1
        if storage.saves == 1:
            storage.saved_from = len(self.timeline)

    def unpack(self, function: Function) -> None:
        """Makes what a function saved be there, where a checkpointed segment threw it away."""
        if function.frame is not None:
            function.saved = function.frame.unpack(function)

    def release(self, function: Function) -> None:
        """Lets go of what a function saved."""
        for storage in function.saved:
            storage.saves -= 1
            if not storage.saves:
                storage.saved_until = len(self.timeline)
            self._disown(storage)
        function.saved = ()

    def free(self, function: Function) -> None:
        """Lets go of what a function saved, and of its segment's inputs after the last one."""
        self.release(function)
        frame = function.frame
        if frame is not None and function.packs[0] != function.packs[1]:
            function.frame = None
            frame.pending -= 1
            if not frame.pending:
                for tensor in frame.entries:
                    self.drop(tensor)

    def leaves(self, tensors: Sequence[Tensor], accumulated: bool) -> None:
        """Makes tensors leaves: gradients are kept (``accumulated``: added to older ones)."""
        rule = _add_to_gradient if accumulated else _keep_gradient
        function = Function(_LEAF, self.place, (), (), rule)
        for tensor in tensors:
            tensor.function = function

    def backward(self, root: Function) -> None:
        """Runs the engine from a scalar, whose gradient of one is held until the end."""
        _count_edges(root)
        one = self.new(1, 4)
        root.received = self.view(one)
        ready = [(-root.order, 0, root)]
        pushed = 0
        while ready:
            function = heapq.heappop(ready)[2]
            for target in self._evaluate(function):
                target.awaited -= 1
                if not target.awaited:
                    pushed += 1
                    heapq.heappush(ready, (-target.order, pushed, target))
        self.drop(one)

    def _evaluate(self, function: Function) -> list[Function]:
        """Runs one function and hands its results on; returns the functions that got one."""
        gradient = function.received
        assert gradient is not None
        function.received = None
        if function.place != self.place:
            self.visit(function.place, "backward")
        if not function.late:
            self.unpack(function)
        results = function.rule(self, function, gradient)
        self.drop(gradient)
        self.free(function)
        targets = []
        for target, result in zip(function.edges, results, strict=True):
            if target is None or result is None:
                continue
            if target.order == _LEAF:  # runs at once, and allocates nothing
                target.rule(self, target, result)
                continue
            self._accumulate(target, result)
            targets.append(target)
        return targets

    def _accumulate(self, target: Function, result: Tensor) -> None:
        """Adds a gradient to what a function has received so far."""
        older = target.received
        if older is None:
            target.received = result
            return
        if not (older.whole() and older.storage.owners == 1):
            total = self.new(older.elements, older.itemsize)
            self.drop(older)
            target.received = total
        self.drop(result)


def _count_edges(root: Function) -> None:
    """Sets for each function how many gradients it awaits."""
    seen = {id(root)}
    stack = [root]
    while stack:
        for target in stack.pop().edges:
            if target is None or target.order == _LEAF:
                continue
            target.awaited += 1
            if id(target) not in seen:
                seen.add(id(target))
                stack.append(target)


def _keep_gradient(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """AccumulateGrad where ``.grad`` is None: takes the gradient as it is."""
    gradient.storage.kind = "gradients"
    return ()


def _add_to_gradient(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """AccumulateGrad where ``.grad`` exists: adds in place."""
    eager.drop(gradient)
    return ()


def fresh(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """Allocates one gradient per input that wants one, all before any is handed on."""
    return [
        None if target is None else eager.new(elements, itemsize)
        for target, (elements, itemsize) in zip(function.edges, function.wants, strict=True)
    ]


def passed(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """Hands the same gradient to every input, converted where an input's width differs."""
    return [
        None
        if target is None
        else eager.view(gradient)
        if itemsize == gradient.itemsize
        else eager.new(elements, itemsize)
        for target, (elements, itemsize) in zip(function.edges, function.wants, strict=True)
    ]


def viewed(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """Backward of a view: reshapes the gradient, which copies it unless it is contiguous."""
    if gradient.contiguous:
        return [eager.view(gradient)]
    return [eager.new(gradient.elements, gradient.itemsize)]
