"""Compares a network of ours with a reference implementation, weights and all.

The leaf modules of the reference are listed in the order of execution (forward hooks) and
matched with ours, kind by kind; weights are copied across; outputs, gradients of the input and
of every parameter, and running statistics must agree.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import UNet, build
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import shapes

PRESETS = Path(__file__).parents[2] / "unet_nas/unet/presets"
NETWORKS = Path(__file__).parent / "networks"


def read(name: str, folder: Path = PRESETS) -> dict[str, Any]:
    """Returns the document of a preset or of a test network."""
    return yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8"))


def architecture(name: str, folder: Path = PRESETS, **changes: Any) -> Architecture:
    """Returns a preset's architecture, with top-level fields replaced."""
    return Architecture(**(read(name, folder)["architecture"] | changes))


def macs(graph: Any, patch_size: tuple[int, ...]) -> int:
    """Returns the multiply-accumulates of convolutions for one sample."""
    positions = [torch.Size(size).numel() for size in shapes(graph, patch_size)]
    return sum(
        node.primitive.macs(positions[node.inputs[0]], positions[index])
        for index, node in enumerate(graph.nodes)
        if node.primitive.is_conv
    )


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def weighted_leaves(module: nn.Module, x: Tensor, early: str = "") -> list[nn.Module]:
    """Returns the leaf modules that hold weights or statistics, in order of execution.

    Leaves whose names match ``early`` are listed before their siblings: where two branches
    run in parallel, implementations differ in which comes first.
    """
    seen: list[nn.Module] = []
    hooks = [
        leaf.register_forward_hook(lambda m, args, out: seen.append(m))
        for leaf in set(module.modules())
        if not list(leaf.children()) and leaf.state_dict()
    ]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(set(seen)), "a module of the reference runs twice"
    if not early:
        return seen
    names = {leaf: name for name, leaf in module.named_modules()}
    for leaf in [leaf for leaf in seen if re.search(early, names[leaf])]:
        parent = re.split(early, names[leaf])[0]
        seen.remove(leaf)
        place = next(i for i, other in enumerate(seen) if names[other].startswith(parent))
        seen.insert(place, leaf)
    return seen


def _kind(module: nn.Module) -> tuple[Any, ...]:
    shapes_ = tuple((name, tuple(value.shape)) for name, value in module.state_dict().items())
    return type(module).__name__, getattr(module, "stride", None), shapes_


def copy_weights(
    reference: nn.Module, ours: nn.Module, x: Tensor, early: str = ""
) -> list[tuple[Tensor, Tensor]]:
    """Copies the reference's weights into ours; returns the pairs of parameters.

    Within a kind (class, stride, shapes) modules are matched in order of execution.
    """
    theirs = weighted_leaves(reference, x, early)
    pairs = []
    for module in weighted_leaves(ours, x):
        kind = _kind(module)
        match = next((other for other in theirs if _kind(other) == kind), None)
        assert match is not None, f"the reference has no further {kind}"
        theirs.remove(match)
        module.load_state_dict(match.state_dict())
        pairs += [(p, q) for p, q in zip(match.parameters(), module.parameters(), strict=True)]
    assert not theirs, f"ours lacks {[_kind(m) for m in theirs]}"
    return pairs


def randomise(module: nn.Module) -> None:
    """Gives weights without symmetry: no zero biases, no unit scales, no fresh statistics."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        with torch.no_grad():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                fan = max(1, parameter[0].numel())
                parameter.copy_(noise / fan**0.5)
            else:
                parameter.copy_(0.5 + 0.1 * noise)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(0.5 + 0.1 * torch.rand(buffer.shape, generator=generator))


def as_list(output: Any) -> list[Tensor]:
    return list(output) if isinstance(output, list | tuple) else [output]


def assert_equal(
    reference: nn.Module,
    wanted: Architecture,
    *sizes: tuple[int, ...],
    batch: int = 2,
    early: str = "",
) -> None:
    """Asserts that both compute the same on inputs of these sizes, forward and backward.

    Weights are copied at the first size. In training mode dropout draws from one seed.
    """
    torch.set_num_threads(1)
    graph = lower(wanted)
    ours = build(graph)
    randomise(reference)
    first = torch.randn(batch, ours.in_channels, *sizes[0])
    reference.eval()
    ours.eval()
    pairs = copy_weights(reference, ours, first, early)
    for size in sizes:
        for training in (True, False):
            _compare(reference.train(training), ours.train(training), pairs, batch, size)
        # the sizes foretold are those of the tensors
        foretold = [shapes(graph, size)[index] for index in graph.outputs]
        with torch.no_grad():
            outputs = as_list(ours(torch.zeros(1, ours.in_channels, *size)))
        assert [tuple(o.shape[2:]) for o in outputs] == foretold


def _compare(
    reference: nn.Module,
    ours: UNet,
    pairs: list[tuple[Tensor, Tensor]],
    batch: int,
    size: tuple[int, ...],
) -> None:
    torch.manual_seed(2)
    x = torch.randn(batch, ours.in_channels, *size)
    results = []
    for module in (reference, ours):
        torch.manual_seed(3)
        module.zero_grad()
        leaf = x.clone().requires_grad_()
        outputs = as_list(module(leaf))
        torch.manual_seed(4)
        loss = sum((o * torch.randn(o.shape)).mean() for o in outputs)
        loss.backward()  # type: ignore[union-attr]
        results.append((outputs, leaf.grad))
    (theirs, their_grad), (mine, my_grad) = results
    assert [o.shape for o in theirs] == [o.shape for o in mine]
    for a, b in zip(theirs, mine, strict=True):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(my_grad, their_grad, atol=1e-5, rtol=1e-5)
    for a, b in pairs:
        torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-4)


def assert_both_refuse(
    reference: nn.Module, ours: Architecture, size: tuple[int, ...], batch: int = 1
) -> None:
    """Asserts that a size on which the reference raises is refused by ours, before and at run."""
    from unet_nas.errors import SizeError

    x = torch.zeros(batch, ours.in_channels, *size)
    with pytest.raises((RuntimeError, ValueError)):
        reference.eval()(x)
    with pytest.raises(SizeError):
        shapes(lower(ours), size)
    with pytest.raises((RuntimeError, ValueError)):
        build(ours).eval()(x)
