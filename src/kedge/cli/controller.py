"""`kedge controller`: the operator, in a pod of its own or beside any cluster."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer


def controller(
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="The cluster; in a pod, its service account's.", show_default=False),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Where Kedge's own objects are.")] = "kedge",
    cluster_domain: Annotated[str, typer.Option(help="Domain of in-cluster names.")] = (
        "cluster.local"
    ),
) -> None:
    """Run Kedge's controllers against a Kubernetes cluster; several may run, one works."""
    from kedge.modes.kubernetes import ControllerSettings, run_operator

    identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{os.getpid()}"
    run_operator(ControllerSettings(identity, namespace, cluster_domain, kubeconfig))
