"""Manifests that come with Kedge as files."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import yaml

from kedge.cluster.base import Object

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Definitions are long, and the loader in C is ten times as fast."""


def shipped(folder: str) -> Iterator[Object]:
    """The objects of a folder of `kedge/manifests`."""
    entries = files("kedge").joinpath("manifests", folder).iterdir()
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            yield from (obj for obj in yaml.load_all(entry.read_text(), _LOADER) if obj)
