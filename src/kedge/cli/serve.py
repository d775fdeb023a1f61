"""`kedge serve`: one model server, as a pod runs it."""

from __future__ import annotations

import typer

PASS_EVERYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


def serve(ctx: typer.Context) -> None:
    """Serve one model in this process, as a pod does: kedge serve RUNTIME --model_dir=DIR.

    `kedge serve --help` lists the runtimes and their options.
    """
    from kedge.server.main import serve as run

    raise typer.Exit(run(list(ctx.args)))
