"""`kedge migrate`: services of an existing KServe become Kedge's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge.cli import output
from kedge.cli.install import Home, Kubeconfig
from kedge.cli.options import Context


def migrate(
    services: Annotated[
        list[str] | None,
        typer.Option(
            "--service",
            metavar="NAMESPACE/NAME",
            help="Take over this one only; may be given again.",
            show_default=False,
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", "--yes", help="Do it; without, only the plan is printed.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Switch KServe on again; Kedge must be uninstalled.")
    ] = False,
    namespace: Home = None,
    values: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Your choices for the installation, as YAML.", show_default=False
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Longest wait for one service, in seconds.", min=0)
    ] = 600.0,
    at_once: Annotated[int, typer.Option(help="Services that move at the same time.", min=1)] = 1,
    drain: Annotated[
        float,
        typer.Option(
            help="How long KServe's pods stay after the Services were taken over, in seconds.",
            min=0,
        ),
    ] = 60.0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Take over the services of KServe, or of KFServing before it.

    Prints what it would do, and changes nothing, unless --apply is given. KServe's controller is
    switched off; then each service moves by itself: Kedge's pods are made beside KServe's, and only
    when they answer its Services become Kedge's and KServe's pods go. It can be run again at any
    time, and goes on where it was.
    """
    import asyncio

    import msgspec

    from kedge.install.migration.planning import Plan
    from kedge.install.values import read_values
    from kedge.modes.migrate import run_migrate, run_undo

    chosen = read_values(values)
    if namespace is not None:
        chosen = msgspec.structs.replace(chosen, namespace=namespace)
    if undo:
        asyncio.run(run_undo(kubeconfig, context, chosen, output.say))
        return

    def agree(plan: Plan) -> bool:
        if not apply:
            output.note("Nothing was changed. Give --apply to do it.")
        return apply

    failed = asyncio.run(
        run_migrate(
            kubeconfig, context, chosen, output.say,
            only=tuple(services or ()), agree=agree, seconds=timeout, at_once=at_once, drain=drain,
        )
    )  # fmt: skip
    if failed:
        output.fail(f"{len(failed)} services are not Kedge's yet. Fix: Mend what is said of them"
                    " above, and run kedge migrate again.")  # fmt: skip
        raise typer.Exit(1)
