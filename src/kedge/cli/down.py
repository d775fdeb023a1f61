"""`kedge down`: end the Kedge on this machine."""

from __future__ import annotations

import typer

from kedge.cli import output
from kedge.cli.up import DataDir


def down(data_dir: DataDir = None) -> None:
    """End the Kedge on this machine and all its pods. What was applied is kept."""
    from kedge.modes import local
    from kedge.settings.local import LocalSettings

    folder = LocalSettings.from_environment(data_dir=data_dir).data_dir
    with output.progress(f"Stopping Kedge on {folder}"):
        code = local.down(folder)
    if code == 0:
        output.say(f"Kedge on {folder} has ended.")
    raise typer.Exit(code)
