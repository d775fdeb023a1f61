"""Container logs on disk: `{pods}/{uid}/logs/{container}/{restart}.log`.

A container writes to its file itself, so reading and keeping logs costs nothing while it works. A
file that grew too large is copied and cut (what is written in between is lost, as with any
copy-and-truncate rotation); `.1` is the newest copy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

_TAIL_BYTES = 2048
_KEPT_RUNS = 2


def log_file(pods_dir: Path, uid: str, container: str, attempt: int) -> Path:
    return pods_dir / uid / "logs" / container / f"{attempt}.log"


def tail(path: Path, lines: int = 80, limit: int = _TAIL_BYTES) -> str:
    """The last lines of a log, as a termination message keeps them."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            data = file.read(limit)
    except OSError:
        return ""
    text = data.decode(errors="replace")
    if size > limit:
        text = text.partition("\n")[2] or text
    return "\n".join(text.rstrip().splitlines()[-lines:])


def rotate(path: Path, limit: int, keep: int) -> bool:
    """Copy and cut a log that is larger than `limit`; whether it was."""
    try:
        if path.stat().st_size <= limit:
            return False
        for number in range(keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}.{number}", f"{path}.{number + 1}")
        with contextlib.suppress(OSError):
            shutil.copyfile(path, f"{path}.1")
        os.truncate(path, 0)
    except OSError:
        return False
    return True


def remove_old_runs(folder: Path, attempt: int) -> None:
    """Keep the logs of the last runs only: `kubectl logs --previous` asks for no more."""
    for path in folder.glob("*.log*"):
        number = path.name.partition(".")[0]
        if number.isdigit() and int(number) <= attempt - _KEPT_RUNS:
            with contextlib.suppress(OSError):
                path.unlink()
