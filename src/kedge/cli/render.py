"""`kedge render`: what the controllers would make of a manifest, without a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli import output
from kedge.cli.exits import FAILED


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
    fields: Annotated[
        bool,
        typer.Option("--fields", help="Instead: which fields are used, refused or warned about."),
    ] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Of objects that name none.")
    ] = "default",
) -> None:
    """Print the objects that an InferenceService becomes: Deployments, Services, routes.

    Nothing is asked of any API: what is not in the files counts as absent, except Kedge's own
    runtimes. Exit code 1 when a manifest is refused.
    """
    from kedge.client.manifests import dump, read_manifests
    from kedge.modes.render import render as render_objects

    manifests = read_manifests(files)
    rendered = render_objects([manifest.object for manifest in manifests], namespace=namespace)
    for text in rendered.warnings:
        output.warn(text)
    for text in rendered.errors:
        output.fail(text)
    if fields:
        rows = [
            [service, one.path, one.use, one.note]
            for service, uses in rendered.fields.items()
            for one in uses
        ]
        output.table(["SERVICE", "FIELD", "USE", "NOTE"], rows)
    elif rendered.objects:
        output.code(dump(rendered.objects), "yaml")
    raise typer.Exit(FAILED if rendered.errors else 0)
