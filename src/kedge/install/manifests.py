"""Manifests that come with Kedge as files."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import yaml

from kedge.cluster.base import Object


def shipped(folder: str) -> Iterator[Object]:
    """The objects of a folder of `kedge/manifests`."""
    entries = files("kedge").joinpath("manifests", folder).iterdir()
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            yield from (obj for obj in yaml.safe_load_all(entry.read_text()) if obj)
