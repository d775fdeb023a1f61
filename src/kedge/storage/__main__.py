"""The storage initializer: `python -m kedge.storage SRC DEST [SRC DEST ...]`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kedge.storage.bring import bring
from kedge.storage.errors import StorageError

USAGE = "Usage: python -m kedge.storage SRC DEST [SRC DEST ...]"


def main(argv: Sequence[str]) -> int:
    """Brings each source to its folder; the exit code is 1 at the first that fails."""
    if len(argv) < 2 or len(argv) % 2:
        print(USAGE, file=sys.stderr)
        return 1
    for source, destination in zip(argv[::2], argv[1::2], strict=True):
        started = time.monotonic()
        try:
            bring(source, Path(destination), _report)
        except StorageError as error:
            return _tell(error)
        _report(f"{source} -> {destination}: done in {time.monotonic() - started:.1f} s")
    return 0


def _report(line: str) -> None:
    print(line, flush=True)


def _tell(error: StorageError) -> int:
    line = f"{error.reason}: {' '.join(str(error).split())}"
    print(line, file=sys.stderr, flush=True)
    log = os.environ.get("KEDGE_TERMINATION_LOG", "")
    path = Path(log or "/dev/termination-log")
    if log or path.is_file():
        try:
            path.write_text(line + "\n")
        except OSError as failure:
            print(f"The termination log {path} cannot be written: {failure}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
