"""Commands on what networks cost: audit, and profile, which measures."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unet_nas.cli.common import (
    Device,
    Implementation,
    Json,
    LossKind,
    OptimizerKind,
    Precision,
    Set,
    default_implementation,
    load,
    print_json,
    print_table,
    read_option,
)
from unet_nas.errors import InputError, SizeError
from unet_nas.unet.outline import by

if TYPE_CHECKING:
    from unet_nas.audit.audit import Audit
    from unet_nas.audit.memory import Training
    from unet_nas.records import Profile
    from unet_nas.unet.architecture import Architecture

# options of the training step, which is audited and measured alike
RequiredSize = Annotated[
    str, typer.Option("--patch-size", metavar="SIZE", help="Spatial size, as 256x256.")
]
Batch = Annotated[int, typer.Option(help="Samples per batch.")]
StepPrecision = Annotated[
    Precision, typer.Option(help="bf16 and fp16 are autocast; pure-… holds weights and data too.")
]
StepOptimizer = Annotated[OptimizerKind, typer.Option(help="Of the training step.")]
StepImplementation = Annotated[
    Implementation | None,
    typer.Option(help="How PyTorch runs the optimizer; single on cpu, foreach on cuda."),
]
StepLoss = Annotated[LossKind, typer.Option(help="Of the training step.")]


def audit(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Architecture files or preset:NAME; several compare."),
    ],
    patch_size: RequiredSize,
    batch: Batch = 1,
    precision: StepPrecision = "fp32",
    optimizer: StepOptimizer = "adamw",
    implementation: StepImplementation = None,
    loss: StepLoss = "dice_cross_entropy",
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT", help="Recompute in backward: 0, encoder.stages.0, bottleneck."
        ),
    ] = None,
    keep_gradients: Annotated[
        bool, typer.Option("--keep-gradients", help="zero_grad(set_to_none=False).")
    ] = False,
    device: Annotated[
        Device, typer.Option(help="Where it runs; cuda adds what its allocator would hold.")
    ] = "cpu",
    in_place: Annotated[bool, typer.Option("--in-place", help="In-place activations.")] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Memory of a training step, as 8GiB.")
    ] = None,
    fit_batch: Annotated[
        bool, typer.Option("--fit-batch", help="Largest batch within --budget.")
    ] = False,
    fit_patch: Annotated[
        bool, typer.Option("--fit-patch", help="Largest patch of this shape within --budget.")
    ] = False,
    fit_width: Annotated[
        bool, typer.Option("--fit-width", help="Widest `width` within --budget.")
    ] = False,
    advice: Annotated[
        bool, typer.Option("--advice", help="What standard changes would do to it.")
    ] = False,
    parts: Annotated[
        Literal["stage", "node"] | None, typer.Option("--by", help="Cost per part.")
    ] = None,
    assignments: Set = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="… as Markdown.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="… as LaTeX (booktabs).")] = False,
) -> None:
    """Tell what networks cost: parameters, MACs and memory, before any tensor exists.

    Exit code 2 if a --budget is given and the training step does not fit.
    """
    from unet_nas.audit.memory import Training
    from unet_nas.units import parse_memory_limit, parse_size

    training = Training(
        precision=precision,
        optimizer=optimizer,
        implementation=implementation or default_implementation(device),
        loss=loss,
        checkpoint=tuple(checkpoint or ()),
        in_place=in_place,
        set_to_none=not keep_gradients,
        device=device,
    )
    flags = {"csv": as_csv, "markdown": as_markdown, "latex": as_latex, "json": as_json}
    chosen = [name for name, given in flags.items() if given]
    request = _AuditRequest(
        files,
        assignments or [],
        read_option("--patch-size", patch_size, parse_size),
        batch,
        training,
        None if budget is None else read_option("--budget", budget, parse_memory_limit),
        chosen[0] if chosen else "",
    )
    fits = {"batch": fit_batch, "patch": fit_patch, "width": fit_width}
    fitting = [name for name, wanted in fits.items() if wanted]
    _refuse_together(
        {
            "--advice": advice,
            **{f"--fit-{name}": bool(wanted) for name, wanted in fits.items()},
            "--by": parts is not None,
            "several files": len(files) > 1,
            **{f"--{name}": given for name, given in flags.items()},
        }
    )
    if fitting:
        _print_fits(request, fitting)
    elif advice:
        _print_advice(request)
    else:
        _print_audits(request, parts)


def profile(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="An architecture file, preset:NAME, or python:module:factory."
        ),
    ],
    patch_size: RequiredSize,
    batch: Batch = 1,
    precision: StepPrecision = "fp32",
    optimizer: StepOptimizer = "adamw",
    implementation: StepImplementation = None,
    loss: StepLoss = "dice_cross_entropy",
    device: Annotated[Device, typer.Option(help="Where it runs.")] = "cpu",
    in_channels: Annotated[
        int | None, typer.Option("--in-channels", min=1, help="Of a network of Python code.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Time it under torch.compile too.")
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Use the channels-last memory format.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Samples of a latency.")] = 20,
    time_limit: Annotated[
        str, typer.Option("--time-limit", metavar="TIME", help="Of each process, as 10min.")
    ] = "10min",
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Measure a network in processes of its own, and print predicted beside measured.

    Running out of memory or time is a result. Exit code 1 if the network itself fails.
    """
    from unet_nas.audit.memory import Training
    from unet_nas.profile.profile import profile as measure
    from unet_nas.units import parse_duration, parse_size

    training = Training(
        precision=precision,
        optimizer=optimizer,
        implementation=implementation or default_implementation(device),
        loss=loss,
        device=device,
    )
    size = read_option("--patch-size", patch_size, parse_size)
    foreign = file.startswith("python:")
    if foreign and assignments:
        raise InputError("--set is for architectures; a network of Python code has no fields")
    request = _AuditRequest([file], assignments or [], size, batch, training, None, "")
    predicted = None if foreign else _audit_one(request)
    result = measure(
        file if foreign else request.architecture(),
        patch_size=size,
        batch_size=batch,
        training=training,
        name=file,
        in_channels=in_channels,
        device=device,
        compiled=compiled,
        channels_last=channels_last,
        repeats=repeats,
        time_limit_s=read_option("--time-limit", time_limit, parse_duration),
        on_progress=lambda message: print(f"unet-nas: {message}", file=sys.stderr),
    )
    _print_profile(result, predicted, as_json)


#: renderings of a table for a file
_TABLE_STYLES = ("csv", "markdown", "latex")


@dataclass(frozen=True, slots=True)
class _AuditRequest:
    """What a person asked an audit for."""

    files: list[str]
    assignments: list[str]
    patch_size: tuple[int, ...]
    batch: int
    training: Training
    budget_bytes: int | None
    style: str

    def architecture(self) -> Architecture:
        """Loads the one file of a question about one network."""
        if len(self.files) != 1:
            raise InputError(f"this is asked about one network, got {len(self.files)} files")
        return load(self.files[0], self.assignments)

    def budget(self) -> int:
        """Returns the budget that fitting needs."""
        if self.budget_bytes is None:
            raise InputError("fitting needs a --budget, such as --budget 8GiB")
        return self.budget_bytes


#: options of which each asks for something that the others would hide
_EXCLUSIVE = (
    ("--advice", "--fit-batch", "--by"),
    ("--advice", "--fit-patch", "--by"),
    ("--advice", "--fit-width", "--by"),
    ("several files", "--advice"),
    ("several files", "--by"),
    *(("several files", f"--fit-{what}") for what in ("batch", "patch", "width")),
    *((f"--fit-{a}", f"--{b}") for a in ("batch", "patch", "width") for b in _TABLE_STYLES),
    *combinations(("--json", *(f"--{style}" for style in _TABLE_STYLES)), 2),
)


def _refuse_together(given: dict[str, bool]) -> None:
    """Refuses options of which one would silently hide another."""
    for group in _EXCLUSIVE:
        met = [name for name in group if given[name]]
        if len(met) > 1:
            raise InputError(f"{met[0]} and {met[1]} exclude each other: ask one at a time")


def _audits(request: _AuditRequest) -> dict[str, Audit | SizeError]:
    """Audits every file; a network that does not run on the patch size keeps its reason."""
    from unet_nas.audit.audit import audit as audit_architecture

    audits: dict[str, Audit | SizeError] = {}
    for file in request.files:
        architecture = load(file, request.assignments)
        try:
            audits[file] = audit_architecture(
                architecture,
                patch_size=request.patch_size,
                batch_size=request.batch,
                training=request.training,
            )
        except SizeError as error:
            hint = f"see unet-nas check {file} --patch-size {by(request.patch_size)}"
            audits[file] = SizeError(f"{file}: {error}; {hint}")
    return audits


def _audit_one(request: _AuditRequest) -> Audit:
    """Audits the first file.

    Raises:
        SizeError: if it does not run on the patch size.
    """
    result = next(iter(_audits(request).values()))
    if isinstance(result, SizeError):
        raise result
    return result


def _print_audits(request: _AuditRequest, parts: str | None) -> None:
    if len(request.files) > 1:
        _print_comparison(request)
    else:
        _print_audit(request, parts)


def _print_audit(request: _AuditRequest, parts: str | None) -> None:
    from unet_nas.report import audit_tables

    name, result, budget = request.files[0], _audit_one(request), request.budget_bytes
    if request.style == "json":
        print_json(audit_tables.as_json(name, result, budget))
    elif request.style:
        print_table(audit_tables.parts_table(result, parts or "stage"), request.style)
    else:
        lines = audit_tables.summary(result, budget)
        width = max(len(label) for label, _ in lines)
        print(name)
        print("\n".join(f"  {label:{width}}  {text}" for label, text in lines))
        if parts:
            print_table(audit_tables.parts_table(result, parts), "")
        else:
            print(f"\n{audit_tables.conventions(result)}")
    if budget is not None and result.budgeted_bytes > budget:
        raise typer.Exit(2)


def _print_comparison(request: _AuditRequest) -> None:
    from unet_nas.report import audit_tables

    audits, budget = _audits(request), request.budget_bytes
    ran = {name: result for name, result in audits.items() if not isinstance(result, SizeError)}
    errors = [result for result in audits.values() if isinstance(result, SizeError)]
    if not ran:
        raise errors[0]
    if request.style == "json":
        found = [audit_tables.as_json(name, result, budget) for name, result in ran.items()]
        print_json({"audits": found, "errors": [str(error) for error in errors]})
    else:
        print_table(audit_tables.comparison_table(audits), request.style)
    for error in errors:
        print(f"unet-nas: {error}", file=sys.stderr)
    over = budget is not None and any(result.budgeted_bytes > budget for result in ran.values())
    if errors or over:
        raise typer.Exit(2)


def _print_fits(request: _AuditRequest, wanted: list[str]) -> None:
    from unet_nas.audit import fit
    from unet_nas.audit.cost import check_batch_size
    from unet_nas.report import audit_tables
    from unet_nas.units import format_bytes

    check_batch_size(request.batch)
    architecture, budget = request.architecture(), request.budget()
    size, batch, training = request.patch_size, request.batch, request.training
    found: dict[str, Any] = {}
    if "batch" in wanted:
        found["batch"] = fit.fit_batch(architecture, budget, size, training)
    if "patch" in wanted:
        found["patch"] = fit.fit_patch(architecture, budget, size, batch, training)
    if "width" in wanted:
        found["width"] = fit.fit_width(architecture, budget, size, batch, training)
    if request.style == "json":
        conditions = audit_tables.conditions_json(size, batch, training)
        print_json({**conditions, "budget_bytes": budget, **found})
    else:
        for what, value in found.items():
            shown = by(value) if isinstance(value, tuple) else value
            limit = f"fits a training step into {format_bytes(budget)}"
            kept = audit_tables.kept(what, size, batch)
            print(
                f"no {what} {limit}" if value is None else f"largest {what} {shown} {limit}, {kept}"
            )
        print(f"\n{audit_tables.fit_conventions(training)}")
    if None in found.values():
        raise typer.Exit(2)


def _print_advice(request: _AuditRequest) -> None:
    from dataclasses import asdict

    from unet_nas.audit.advice import advise
    from unet_nas.report import audit_tables

    architecture = request.architecture()
    result = _audit_one(request)
    rows = advise(
        architecture,
        patch_size=request.patch_size,
        batch_size=request.batch,
        training=request.training,
    )
    if request.style == "json":
        print_json({"advice": [asdict(row) for row in rows]})
    else:
        print_table(audit_tables.advice_table(rows, result), request.style)


def _print_profile(result: Profile, predicted: Audit | None, as_json: bool) -> None:
    from unet_nas.report import profile_tables

    if as_json:
        print_json(profile_tables.as_json(result, predicted))
    else:
        print_table(profile_tables.profile_table(result, predicted), "")
    if any(failure.kind == "failed" for failure in result.failures.values()):
        raise typer.Exit(1)
