"""The command `kedge`: every verb in the order in which one meets them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from kedge.cli import (
    apply,
    delete,
    down,
    export,
    get,
    logs,
    output,
    predict,
    render,
    rollout,
    run,
    serve,
    status,
    up,
    why,
)
from kedge.cli.exits import INTERRUPTED, exit_code
from kedge.lib.errors import KedgeError

EPILOG = (
    "Exit codes: 0 done, 1 it failed, 2 usage, 3 not found, 4 no API to talk to, 124 timed out."
)


class Verbs(TyperGroup):
    """Runs a verb; an error becomes its text and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KedgeError as error:
            output.fail(describe(error))
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error


def describe(error: KedgeError) -> str:
    """An error's message, its causes field by field, and its fix."""
    from kedge.client.errors import causes_of
    from kedge.cluster.errors import ApiError

    causes = causes_of(error) if isinstance(error, ApiError) else []
    told = "".join(f"\n  {field}: {text}" if field else f"\n  {text}" for field, text in causes)
    fix = f" Fix: {error.fix}" if error.fix else ""
    return f"{error.message}{told}{fix}"


def version(wanted: bool) -> None:
    if wanted:
        from kedge import __version__

        output.say(f"kedge {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="kedge",
    cls=Verbs,
    help="Serve machine-learning models: KServe's InferenceService, on one machine or Kubernetes.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    show_version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=version, is_eager=True
    ),
) -> None:
    """What holds for every verb."""


HERE = "This machine"
SERVICES = "Services"
FILES = "Files and processes"

app.command("up", rich_help_panel=HERE)(up.up)
app.command("down", rich_help_panel=HERE)(down.down)
app.command("status", rich_help_panel=HERE)(status.status)
app.command("run", rich_help_panel=SERVICES)(run.run)
app.command("apply", rich_help_panel=SERVICES)(apply.apply)
app.command("get", rich_help_panel=SERVICES)(get.get)
app.command("predict", rich_help_panel=SERVICES)(predict.predict)
app.command("why", rich_help_panel=SERVICES)(why.why)
app.command("logs", rich_help_panel=SERVICES)(logs.logs)
app.add_typer(rollout.app, name="rollout", rich_help_panel=SERVICES)
app.command("delete", rich_help_panel=SERVICES)(delete.delete)
app.command("render", rich_help_panel=FILES)(render.render)
app.command("export", rich_help_panel=FILES)(export.export)
app.command(
    "serve", rich_help_panel=FILES, add_help_option=False, context_settings=serve.PASS_EVERYTHING
)(serve.serve)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        app(args=list(sys.argv[1:] if argv is None else argv), prog_name="kedge")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
