"""`kedge up`: start Kedge on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge.cli import output

DataDir = Annotated[
    Path | None,
    typer.Option(help="Its folder; else $KEDGE_HOME, else ~/.kedge.", show_default=False),
]


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Come back as soon as it is ready.")
    ] = False,
    data_dir: DataDir = None,
    port: Annotated[int, typer.Option(help="The gateway's port: predictions.")] = 8080,
    api_port: Annotated[int, typer.Option(help="The Kubernetes API's port.")] = 8081,
    envoy_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=False,
            help="Envoy's threads that carry requests; else half of the cores, four at most.",
        ),
    ] = None,
) -> None:
    """Start Kedge on this machine: a Kubernetes API for kubectl, a gateway for predictions.

    Runs until Ctrl-C, or in the background with --detach. What was applied before is served again.
    """
    from kedge.modes import local
    from kedge.settings.local import LocalSettings

    settings = LocalSettings.from_environment(
        data_dir=data_dir, port=port, api_port=api_port, envoy_workers=envoy_workers
    )
    if not detach:
        output.note(f"Starting Kedge on {settings.data_dir} (logs: {settings.logs_dir})")
        raise typer.Exit(local.up(settings))
    with output.progress(f"Starting Kedge on {settings.data_dir}"):
        code = local.up(settings, detach=True)
    if code == 0:
        output.say(ready_text(settings.data_dir))
    raise typer.Exit(code)


def ready_text(data_dir: Path) -> str:
    """What a person needs to know of a Kedge that just got ready."""
    import json

    ready = json.loads((data_dir / "ready.json").read_text())
    kubeconfig = data_dir / "kubeconfig"
    return "\n".join(
        (
            f"Kedge is ready after {float(ready['started_seconds']):.1f} s (pid {ready['pid']}).",
            f"  predictions  {ready['gateway_url']}/serving/NAMESPACE/NAME/",
            f"  kubectl      export KUBECONFIG={kubeconfig}",
            f"  stop         kedge down --data-dir {data_dir}",
        )
    )
