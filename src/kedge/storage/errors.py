"""Why model files could not be brought."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from kedge.lib.errors import KedgeError

MIB = 1 << 20


class StorageError(KedgeError):
    """The files are not there, may not be read, or do not fit."""

    reason = "StorageError"


class Passing(StorageError):
    """A fault that another try may not meet."""


def disk_error(error: OSError, destination: Path) -> StorageError:
    """What the operating system refused while writing below `destination`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(destination)
    return StorageError(
        f"Cannot write to {error.filename or destination}: {error.strerror}.",
        fix=f"Make {destination} a folder that this container's user may write to.",
    )


def disk_full(destination: Path, needed: int | None = None) -> StorageError:
    free = shutil.disk_usage(_existing(destination)).free
    needs = f"the model needs {-(-needed // MIB)} MiB and " if needed is not None else ""
    return StorageError(
        f"The disk of {destination} is full: {needs}{free // MIB} MiB are free.",
        fix="Free space there, or give the pod a larger volume.",
        reason="DiskFull",
    )


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
