"""A graph as one readable Python file of plain PyTorch that needs nothing of this package.

The file has what a person would write: a class ``UNet`` with its modules, chains of them as
``nn.Sequential``, and a straight ``forward``. It renders the same :class:`Call` of each
primitive that :mod:`unet_nas.unet.build` makes modules of, in the same order, so equal weights
give equal bits. The few modules that PyTorch lacks are copied out of ``unet/layers.py``.

Its parameters are called after its own attributes (``encoder_0.3.weight``), not after the
nodes of the graph (``encoder.stages.0.convs.1.conv.weight``): the latter would take a tree of
nested containers that nobody would write. :func:`parameter_names` says which is which.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from itertools import groupby
from math import prod
from typing import TypeVar

from unet_nas.errors import InputError, SizeError
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph, Node
from unet_nas.text.document import printable
from unet_nas.unet.calls import MAX_COLUMNS, call_text, chain_text
from unet_nas.unet.outline import by, part_of
from unet_nas.unet.shapes import AxisSizes, Size, shapes
from unet_nas.unet.statements import Program, Statement, module_paths, program

T = TypeVar("T")

#: where a size for the example is looked for, by number of spatial dimensions
_EXAMPLE_SIZES = {1: 512, 2: 128, 3: 32}

#: joints that are written as an expression: PyTorch itself refuses maps that do not fit
_EXPRESSIONS = ("layers.Concat", "layers.Scale")


def export_source(graph: Graph, name: str, patch_size: Sequence[int] | None = None) -> str:
    """Returns the text of a Python file that defines the network.

    Args:
        graph: the network.
        name: what the file calls it.
        patch_size: the size for which the file states MACs and which it runs as an example;
            by default the smallest valid one from 128 on (512 in 1D, 32 in 3D).

    Raises:
        SizeError: if the network does not run on that size, or on no size at all.
    """
    size = tuple(patch_size) if patch_size is not None else example_size(graph)
    sections = [
        _header(graph, name, size),
        *_helpers(graph),
        *_initialisers(graph),
        _network(graph),
        _main(graph, size),
    ]
    body = "\n\n\n".join(sections[1:])
    gap = "\n\n\n" if body.startswith(("class", "def")) else "\n\n"
    return f"{sections[0]}\n\n{_imports(body)}{gap}{body}\n"


# --- names of parameters ------------------------------------------------------------------


def parameter_names(graph: Graph) -> dict[str, str]:
    """Returns the names of all parameters and buffers: ours to those of the exported file.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> names = parameter_names(lower(Architecture(depth=1)))
    >>> names["encoder.stages.0.convs.1.conv.weight"], names["head.conv.bias"]
    ('encoder_0.3.weight', 'head.bias')
    """
    paths = module_paths(graph)
    return {
        f"{node.name}.{tensor}": f"{paths[node.name]}.{tensor}"
        for node in graph.nodes[1:]
        for tensor in _tensors(node.primitive)
    }


def renamed(graph: Graph, weights: Mapping[str, T]) -> dict[str, T]:
    """Returns weights of our module under the names of the exported file.

    Raises:
        InputError: if a parameter or buffer is missing, or there is one too many.
    """
    names = parameter_names(graph)
    missing, foreign = names.keys() - weights.keys(), weights.keys() - names.keys()
    for what, found in (("lack", missing), ("have no place in the network for", foreign)):
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise InputError(f"the weights {what} {min(found)!r}{more}; are they of this network?")
    return {names[ours]: tensor for ours, tensor in weights.items()}


def _tensors(primitive: p.Primitive) -> tuple[str, ...]:
    """Returns the names of the parameters and buffers of a primitive's module."""
    match primitive:
        case p.Conv() | p.ConvTranspose():
            return ("weight", "bias") if primitive.bias else ("weight",)
        case p.BatchNorm():
            own = ("weight", "bias") if primitive.affine else ()
            return (*own, "running_mean", "running_var", "num_batches_tracked")
        case p.InstanceNorm() | p.GroupNorm():
            return ("weight", "bias") if primitive.affine else ()
        case p.PReLU():
            return ("weight",)
        case p.Blur():
            return ("filter",)
    return ()


# --- an example of a size -----------------------------------------------------------------


def example_size(graph: Graph) -> Size:
    """Returns a size of moderate extent that the network runs on, in training too if possible.

    Raises:
        SizeError: if there is none.
    """
    axes = [AxisSizes(graph, axis) for axis in range(graph.dims)]
    start = _EXAMPLE_SIZES[graph.dims]
    found = [[_from(axis, n) for axis in axes] for n in (start, 2 * start, 4 * start, 8 * start)]
    found.append([next(filter(axis.valid, range(start, 0, -1)), None) for axis in axes])
    sizes = [tuple(n for n in size if n is not None) for size in found if None not in size]
    for training in (True, False):
        for size in sizes:
            if not single_value(graph, size, training):
                return size
    raise SizeError("the network runs on no size; `unet-nas check` says why")


def _from(axis: AxisSizes, n: int) -> int | None:
    """Returns the smallest valid size from ``n`` on, where there is one."""
    return n if axis.valid(n) else axis.nearest(n)[1]


def single_value(graph: Graph, size: Size, training: bool) -> bool:
    """Tells whether one sample of this size leaves a norm with a single value.

    Args:
        graph: the network.
        size: that it takes.
        training: whether norms use the statistics of the batch.
    """
    return any(
        node.primitive.single_value(1, node.channels, prod(extent), training)
        for node, extent in zip(graph.nodes, shapes(graph, size), strict=True)
    )


# --- the head of the file -----------------------------------------------------------------


def _header(graph: Graph, name: str, size: Size) -> str:
    """Returns the docstring of the file."""
    channels, classes = graph.nodes[0].channels, graph.nodes[graph.outputs[0]].channels
    spatial = ("length", "height, width", "depth, height, width")[graph.dims - 1]
    output = f"logits (batch, {classes}, {spatial})"
    if len(graph.outputs) > 1:
        output = f"a list of {len(graph.outputs)}, full resolution first: {output}"
    sizes = shapes(graph, size)
    macs = sum(
        node.primitive.macs(prod(sizes[node.inputs[0]]), prod(extent))
        for node, extent in zip(graph.nodes[1:], sizes[1:], strict=True)
    )
    rows = [
        ("Input", f"(batch, {channels}, {spatial})"),
        ("Output", output),
        ("Sizes", _size_rules(graph)),
        ("Parameters", f"{graph.parameters():,}, all trainable"),
        (
            "MACs",
            f"{macs:,} for one input of {by(size)}: multiply-accumulates of the convolutions, "
            "without biases, norms and activations; FLOPs = 2 x MACs",
        ),
        ("Digest", f"{graph.digest()} (SHA-256)"),
    ]
    lines = [line for label, text in rows for line in _row(label, text)]
    title = f"{_safe(name)}: a U-Net in plain PyTorch, written by unet_nas {_version()}."
    return "\n".join(['"""' + title, "", *lines, '"""'])


def _row(label: str, text: str) -> list[str]:
    indent = " " * 12
    return textwrap.wrap(
        text,
        MAX_COLUMNS,
        initial_indent=f"{label:12}",
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def _size_rules(graph: Graph) -> str:
    rules = [AxisSizes(graph, axis).rule() for axis in range(graph.dims)]
    words = ["no short rule" if rule is None else rule.describe() for rule in rules]
    if len(set(words)) == 1:
        return ("" if graph.dims == 1 else "each axis: ") + words[0]
    return "; ".join(f"axis {axis}: {rule}" for axis, rule in enumerate(words))


def _safe(name: str) -> str:
    """Returns a name on one short line that cannot end a docstring."""
    return printable(textwrap.shorten(name, 50, placeholder="…")).translate({34: "'", 92: "/"})


def _version() -> str:
    import unet_nas  # noqa: PLC0415 - the version is looked up when it is asked for

    return str(unet_nas.__version__)


def _imports(body: str) -> str:
    """Returns the imports that the rest of the file needs."""
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    math = sorted({"comb", "prod"} & used)
    torch = [
        "import torch" if "torch" in used else "",
        f"from torch import {', '.join(sorted({'Tensor', 'nn'} & used))}",
        "from torch.nn import functional as F" if "F" in used else "",
    ]
    blocks = [f"from math import {', '.join(math)}"] if math else []
    return "\n\n".join([*blocks, "\n".join(line for line in torch if line)])


# --- what PyTorch lacks -------------------------------------------------------------------


def _helpers(graph: Graph) -> list[str]:
    """Returns the definitions out of ``layers.py`` that the network needs, in their order."""
    targets = {_call(graph, node).target for node in graph.nodes[1:]} - {*_EXPRESSIONS}
    wanted = {t.removeprefix("layers.") for t in targets if t.startswith("layers.")}
    text = resources.files("unet_nas.unet").joinpath("layers.py").read_text(encoding="utf-8")
    found = {name: node for node in ast.parse(text).body for name in _defined(node)}
    names: set[str] = set()
    while wanted:
        name = wanted.pop()
        names.add(name)
        words = {n.id for n in ast.walk(found[name]) if isinstance(n, ast.Name)}
        wanted |= (words & found.keys()) - names
    return [_segment(text, node) for name, node in found.items() if name in names]


def _defined(node: ast.stmt) -> list[str]:
    """Returns the names that a statement of a module defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _segment(text: str, node: ast.stmt) -> str:
    """Returns the text of a definition, without what it says to type checkers."""
    return re.sub(r"  # type: ignore\[.*?\]", "", ast.get_source_segment(text, node) or "")


def _call(graph: Graph, node: Node) -> p.Call:
    return node.primitive.call(graph.dims)


# --- initialisation -----------------------------------------------------------------------

_ICNR = '''\
def initialise_icnr(conv: nn.Module, copies: int) -> None:
    """Makes a pixel shuffle start as nearest interpolation (Aitken et al., arXiv:1707.02937)."""
    with torch.no_grad():
        conv.weight.copy_(conv.weight[::copies].repeat_interleave(copies, dim=0))'''


def _initialisers(graph: Graph) -> list[str]:
    """Returns the functions that initialise weights, as far as there are any."""
    kinds = sorted({_call(graph, node).target for node in graph.nodes if _is_initialised(node)})
    if not kinds:
        return []
    he = f'''\
def initialise(module: nn.Module) -> None:
    """Draws the weights of a convolution after He et al., arXiv:1502.01852; no bias at first."""
    if isinstance(module, {" | ".join(kinds)}):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)'''
    return [he, *([_ICNR] if any(node.init for node in graph.nodes) else [])]


def _is_initialised(node: Node) -> bool:
    return isinstance(node.primitive, p.Conv | p.ConvTranspose)


def _initialised(graph: Graph) -> Iterator[str]:
    """Yields the lines of ``__init__`` that initialise the weights."""
    if any(map(_is_initialised, graph.nodes)):
        yield ""
        yield "self.apply(initialise)"
    paths = module_paths(graph)
    for node in graph.nodes:
        if node.init is not None:
            attribute, _, position = paths[node.name].partition(".")
            path = f"{attribute}[{position}]" if position else attribute
            yield f"initialise_icnr(self.{path}, {node.init.removeprefix('icnr:')})"


# --- the network --------------------------------------------------------------------------


def _network(graph: Graph) -> str:
    """Returns the class."""
    lines, joints = program(graph), _joints(graph)
    several = len(lines.outputs) > 1
    text = [
        "class UNet(nn.Module):",
        '    """The network; the head of this file says what goes in and what comes out."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *_indented(_modules(graph, lines, joints)),
        "",
        f"    def forward(self, x: Tensor) -> {'list[Tensor]' if several else 'Tensor'}:",
        '        """Returns the logits of a batch."""',
        *_indented(_forward(graph, lines, joints)),
    ]
    return "\n".join(text)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield textwrap.indent(line, " " * 8)


def _joints(graph: Graph) -> dict[p.Call, str]:
    """Returns the attributes of the modules that join several maps: one for equal calls."""
    names: dict[p.Call, str] = {}
    for node in graph.nodes[1:]:
        call = _call(graph, node)
        if len(node.inputs) > 1 and call.target not in _EXPRESSIONS and call not in names:
            base = re.sub(r"(?<!^)(?=[A-Z])", "_", call.target.removeprefix("layers.")).lower()
            same = sum(other.target == call.target for other in names)
            names[call] = f"{base}_{same + 1}" if same else base
    return names


def _modules(graph: Graph, lines: Program, joints: Mapping[p.Call, str]) -> Iterator[str]:
    """Yields the assignments of ``__init__``."""
    chains = [line for line in lines.statements if line.attribute]
    for group, members in groupby(chains, key=lambda line: _group(graph, line)):
        yield f"# {group}"
        for line in members:
            calls = [_call(graph, graph.nodes[i]) for i in line.nodes]
            yield f"self.{line.attribute} = {chain_text(calls, len(line.attribute) + 16)}"
    if joints:
        yield "# joints, without weights"
        yield from (f"self.{name} = {call_text(call, 40)}" for call, name in joints.items())
    yield from _initialised(graph)


def _group(graph: Graph, line: Statement) -> str:
    word = part_of(graph.nodes[line.nodes[0]].name).split(".")[0]
    return {"stem": "encoder", "deep_heads": "decoder"}.get(word, word)


def _forward(graph: Graph, lines: Program, joints: Mapping[p.Call, str]) -> Iterator[str]:
    """Yields the lines of ``forward``."""
    single = len(lines.outputs) == 1
    for group, members in groupby(lines.statements, key=lambda line: _group(graph, line)):
        yield f"# {group}"
        for line in members:
            last = line is lines.statements[-1]
            if line.saved:
                yield f"{line.saved} = {line.target}"
            expression = _expression(graph, line, joints)
            if last and single and line.target == lines.outputs[0]:
                yield f"return {expression}"
                return
            yield f"{line.target} = {expression}"
            if line.deleted and not last:
                yield f"del {', '.join(line.deleted)}"
    yield f"return {lines.outputs[0] if single else '[' + ', '.join(lines.outputs) + ']'}"


def _expression(graph: Graph, line: Statement, joints: Mapping[p.Call, str]) -> str:
    """Returns what a line computes."""
    arguments = ", ".join(line.arguments)
    if line.attribute:
        return f"self.{line.attribute}({arguments})"
    call = _call(graph, graph.nodes[line.nodes[0]])
    if call.target == "layers.Scale":
        return " * ".join(line.arguments)
    if call.target == "layers.Concat":
        return f"torch.cat(({arguments}), dim=1)"
    return f"self.{joints[call]}({arguments})"


def _main(graph: Graph, size: Size) -> str:
    """Returns what runs when the file is run."""
    shape = ", ".join(map(str, (1, graph.nodes[0].channels, *size)))
    shown = "print(tuple(output.shape))"
    if len(graph.outputs) > 1:
        shown = "print([tuple(logits.shape) for logits in output])"
    return f"""\
if __name__ == "__main__":
    network = UNet().eval()
    with torch.no_grad():
        output = network(torch.randn({shape}))
    {shown}"""
