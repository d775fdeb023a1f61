"""`kedge install` and `kedge uninstall`: Kedge in a Kubernetes cluster, and away again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge.cli import output
from kedge.cli.options import Context

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        help="Which cluster; else $KUBECONFIG, else ~/.kube/config.",
        rich_help_panel="Connection",
        show_default=False,
    ),
]
Home = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Where Kedge's own objects are; else `kedge`."),
]
Timeout = Annotated[float, typer.Option(help="Longest wait, in seconds.", min=0)]


def install(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every object as YAML, and change nothing.")
    ] = False,
    namespace: Home = None,
    values: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your choices, as YAML.", show_default=False),
    ] = None,
    image_prefix: Annotated[
        str | None,
        typer.Option(help="Your registry and folder, ending in `/`.", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all pods run.")] = True,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Prove that a service answers.")
    ] = True,
    timeout: Timeout = 300.0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Install Kedge into a Kubernetes cluster, or bring it up to date.

    Says what it finds and what it does; a second run changes nothing, and mends what was changed.
    """
    import asyncio

    import msgspec

    from kedge.install.render import render, to_yaml
    from kedge.install.values import read_values

    given = {"namespace": namespace, "image_prefix": image_prefix}
    chosen = msgspec.structs.replace(
        read_values(values), **{name: value for name, value in given.items() if value is not None}
    )
    if dry_run:
        output.say(to_yaml(render(chosen)).rstrip("\n"))
        return
    from kedge.modes.install import run_install

    asyncio.run(
        run_install(
            kubeconfig, context, chosen, output.say, wait=wait, check=verify, seconds=timeout
        )
    )
    output.say(f"Kedge is installed in namespace {chosen.namespace}.")


def uninstall(
    namespace: Home = None,
    keep_crds: Annotated[
        bool, typer.Option("--keep-crds", help="Keep the definitions, and all services.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove services unasked.")] = False,
    timeout: Timeout = 300.0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Remove Kedge from a Kubernetes cluster, and with it, unless --keep-crds, all services."""
    import asyncio

    from kedge.modes.install import run_uninstall
    from kedge.settings.serving import DEFAULT_NAMESPACE

    def agree(services: list[str]) -> bool:
        shown = ", ".join(services[:10]) + (" ..." if len(services) > 10 else "")
        output.note(f"{len(services)} InferenceServices go with it: {shown}")
        return yes or (output.is_rich() and typer.confirm("Remove them?"))

    removed = asyncio.run(
        run_uninstall(
            kubeconfig,
            context,
            namespace or DEFAULT_NAMESPACE,
            output.say,
            keep_crds=keep_crds,
            agree=agree,
            seconds=timeout,
        )
    )
    output.say(f"{removed} objects removed." if removed else "Kedge is not installed here.")
