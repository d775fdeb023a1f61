"""`kedge run`: from a model file to a running service."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli import output
from kedge.cli.options import Context, Kubeconfig, Namespace, Timeout, find_access


def run(
    model: Annotated[
        str,
        typer.Argument(
            metavar="PATH|OBJECT.py",
            help="A model file, its folder, or a Python file that defines `model`.",
        ),
    ],
    name: Annotated[
        str, typer.Option(help="Of the service; else the file's or the folder's.")
    ] = "",
    timeout: Timeout = 120.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Serve a model: find out its format, show the YAML that serves it, apply it, wait.

    Ends with a curl command that sends one valid row, made from the model's own metadata.
    """

    from kedge.client.run import prepare

    service = prepare(model, name, namespace=namespace, access=find_access(kubeconfig, context))
    output.code(service.text, "yaml")
    output.say()
    with output.progress("Waiting for the service") as tell:
        running = service.start(timeout=timeout, progress=lambda now, _: tell(now.brief))
    output.say(f"{running.name} is Ready: {running.url}")
    if running.curl:
        output.say()
        output.code(running.curl, "bash")
    else:
        output.note("The model does not tell what its inputs are, so there is no sample row.")
