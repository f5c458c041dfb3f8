"""The command line: parse, call one public function, print, set the exit code."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from unet_nas.cli import (
    costs,
    datasets,
    diagnosing,
    exports,
    networks,
    reporting,
    searching,
    spaces,
    training,
)
from unet_nas.errors import DocumentError, UnetNasError

app = typer.Typer(
    help="Describe U-Nets in YAML, check them before a tensor exists, and build them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Describe U-Nets in YAML, check them before a tensor exists, and build them."""
    if version:
        import unet_nas

        print(f"unet-nas {unet_nas.__version__}")
        raise typer.Exit


for command in (
    networks.check,
    networks.show,
    networks.presets,
    networks.operators,
    reporting.draw,
    costs.audit,
    costs.profile,
    diagnosing.diagnose,
    reporting.compare,
    spaces.space,
    datasets.data,
    searching.search,
    reporting.report,
    exports.export,
    training.train,
    training.predict,
):
    app.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; prints one message and no traceback for what a person did."""
    # plug-ins that other packages bring for pydantic are none of ours, and cost time to look for
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows ?
    try:
        try:
            app(args=arguments, prog_name="unet-nas")
        finally:
            sys.stdout.flush()
    except UnetNasError as error:
        # a fault of a document begins with file and line, which editors and terminals can open
        begin = "" if isinstance(error, DocumentError) else "unet-nas: "
        print(f"{begin}{error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe went away: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
