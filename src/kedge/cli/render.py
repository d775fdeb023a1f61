"""`kedge render`: what the controllers would make of a manifest, without a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli import output


def render(
    files: Annotated[
        list[str],
        typer.Option(
            "--filename",
            "-f",
            metavar="FILE|DIR|-",
            help="YAML or JSON; may be repeated. Runtimes and Secrets in them are used.",
        ),
    ],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="For objects that name none.")
    ] = "default",
) -> None:
    """Print the objects that an InferenceService becomes: Deployments, Services, routes.

    Nothing is asked of any API: what is not in the files counts as absent.
    """
    from kedge.client.manifests import dump, read_manifests
    from kedge.modes.render import render as render_objects

    objects = []
    for manifest in read_manifests(files):
        metadata = manifest.object.setdefault("metadata", {})
        metadata.setdefault("namespace", namespace)
        objects.append(manifest.object)
    output.code(dump(render_objects(objects)), "yaml")
