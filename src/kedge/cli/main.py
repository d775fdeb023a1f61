"""The command `kedge`: every verb in the order in which one meets them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from kedge.cli import (
    apply,
    controller,
    delete,
    down,
    export,
    gateway,
    get,
    install,
    logs,
    migrate,
    node,
    output,
    predict,
    render,
    rollout,
    run,
    serve,
    status,
    top,
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
    # Rich draws help on a terminal only: loading it takes longer than all else of `--help`.
    rich_markup_mode="rich" if output.is_rich() else None,
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
KUBERNETES = "Kubernetes"
FILES = "Files and processes"


def _add(name: str, verb: Callable[..., None], panel: str, summary: str, **more: Any) -> None:
    app.command(name, rich_help_panel=panel, short_help=summary, **more)(verb)


_add("up", up.up, HERE, "Start Kedge on this machine.")
_add("down", down.down, HERE, "End it, and all its pods.")
_add("status", status.status, HERE, "Tell whether it runs and answers.")
_add("run", run.run, SERVICES, "Serve a model file.")
_add("apply", apply.apply, SERVICES, "Create or change what manifests describe.")
_add("get", get.get, SERVICES, "List services, or other resources.")
_add("top", top.top, SERVICES, "Tell how much services are asked, and how they answer.")
_add("predict", predict.predict, SERVICES, "Send rows to a service.")
_add("why", why.why, SERVICES, "Tell why a service is not Ready.")
_add("logs", logs.logs, SERVICES, "Print what a service's pods write.")
app.add_typer(
    rollout.app, name="rollout", rich_help_panel=SERVICES, short_help="Roll a service out anew."
)
_add("delete", delete.delete, SERVICES, "Delete services, or other resources.")
_add("install", install.install, KUBERNETES, "Install Kedge into a cluster, or update it.")
_add("uninstall", install.uninstall, KUBERNETES, "Remove Kedge from a cluster.")
_add("migrate", migrate.migrate, KUBERNETES, "Take over the services of KServe.")
_add("controller", controller.controller, KUBERNETES, "Run the controllers against a cluster.")
_add("gateway", gateway.gateway, KUBERNETES, "Drive an Envoy of a cluster's gateway.")
_add("node", node.node, KUBERNETES, "Run a cluster's pods as processes of this machine.")
_add("render", render.render, FILES, "Print what a manifest becomes, offline.")
_add("export", export.export, FILES, "Print what was applied, as YAML.")
_add(
    "serve",
    serve.serve,
    FILES,
    "Serve one model in this process, as a pod does.",
    add_help_option=False,
    context_settings=serve.PASS_EVERYTHING,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        app(args=list(sys.argv[1:] if argv is None else argv), prog_name="kedge")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
