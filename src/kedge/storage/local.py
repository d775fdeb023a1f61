"""Files that are on this machine: linked, not copied, as KServe does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from kedge.storage.errors import StorageError


def link(
    source: Path, destination: Path, report: Callable[[str], None], env: Mapping[str, str]
) -> None:
    """Links the entries of a folder, or one file, into `destination`; existing names are kept."""
    source = source.absolute()
    if not source.exists():
        raise StorageError(
            f"Local path {source} does not exist.",
            fix="Correct the storageUri, or put the model there.",
        )
    if source.is_dir() and destination.resolve() == source.resolve():
        return
    wanted = _chosen(_entries(source), env)
    if not wanted:
        raise StorageError(
            f"Failed to fetch model. No model found in {source}.",
            fix="Put the model's files there; hidden files do not count.",
        )
    for entry in wanted:
        target = destination / entry.name
        if not target.exists():
            target.unlink(missing_ok=True)
            target.symlink_to(entry)
    report(f"{source}: linked {len(wanted)} entries into {destination}")


def _entries(source: Path) -> list[Path]:
    try:
        found = sorted(source.iterdir()) if source.is_dir() else [source]
    except OSError as error:
        raise StorageError(
            f"Local path {source} cannot be read: {error.strerror}.",
            fix=f"Give this container's user read access to {source}.",
        ) from error
    return [entry for entry in found if not entry.name.startswith(".")]


def _chosen(entries: list[Path], env: Mapping[str, str]) -> list[Path]:
    allow = patterns(env.get("STORAGE_ALLOW_PATTERNS", ""))
    ignore = patterns(env.get("STORAGE_IGNORE_PATTERNS", ""))
    return [
        entry
        for entry in entries
        if (not allow or any(fnmatch(entry.name, one) for one in allow))
        and not any(fnmatch(entry.name, one) for one in ignore)
    ]


def patterns(text: str) -> list[str]:
    """A JSON array or a comma list."""
    text = text.strip()
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except ValueError as error:
            raise StorageError(
                f"The storage patterns {text!r} are not a JSON array.",
                fix='Write them as a comma list, or as ["*.joblib"].',
            ) from error
        return [str(one) for one in listed]
    return [one.strip() for one in text.split(",") if one.strip()]
