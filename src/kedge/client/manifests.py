"""Manifests: YAML or JSON from files, folders and standard input, each object with its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kedge.client.errors import ManifestError

SUFFIXES = (".yaml", ".yml", ".json")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Manifest:
    """One object and where it was written.

    Attributes:
        where: `file:line`, for messages.
    """

    object: dict[str, Any]
    where: str


def read_manifests(sources: list[str]) -> list[Manifest]:
    """Every object of files, of folders (their .yaml, .yml and .json files) and of `-`."""
    found = [manifest for source in sources for manifest in _read(source)]
    if not found:
        raise ManifestError(
            f"{', '.join(sources)} holds no object.",
            fix=f"Name a file, or a folder with {', '.join(SUFFIXES)} files.",
        )
    return found


def parse_manifests(text: str, source: str) -> Iterator[Manifest]:
    """The objects of a text; a `List` is taken apart."""
    try:
        nodes = list(yaml.compose_all(text, Loader=_LOADER))
        documents = list(yaml.load_all(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise ManifestError(
            f"{source} is not YAML: {_describe(error)}.", fix="Correct the YAML at that line."
        ) from error
    for node, document in zip(nodes, documents, strict=True):
        if document is None:
            continue
        line = node.start_mark.line + 1 if node is not None else 1
        yield from _objects(document, f"{source}:{line}")


def dump(documents: list[dict[str, Any]]) -> str:
    """YAML of objects, in the order of their keys."""
    return yaml.safe_dump_all(
        documents, sort_keys=False, default_flow_style=False, allow_unicode=True, width=100
    )


def _read(source: str) -> Iterator[Manifest]:
    if source == "-":
        yield from parse_manifests(sys.stdin.read(), "standard input")
        return
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    else:
        files = [path]
    for file in files:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            told = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ManifestError(
                f"{file} cannot be read: {told}.",
                fix="Name a manifest, a folder of manifests, or - for standard input.",
            ) from error
        yield from parse_manifests(text, str(file))


def _objects(document: Any, where: str) -> Iterator[Manifest]:
    if not isinstance(document, dict):
        raise ManifestError(
            f"{where} is a {type(document).__name__} and not an object.",
            fix="Begin with `apiVersion`, `kind` and `metadata`.",
        )
    if document.get("kind") == "List" and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _objects(item, where)
        return
    yield Manifest(document, where)


def _describe(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem}, at line {mark.line + 1}, column {mark.column + 1}"
    return str(error).replace("\n", " ")
