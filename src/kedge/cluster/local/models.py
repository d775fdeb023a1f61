"""The model files that revisions are pinned to: told by their content, and kept.

A model's digest is over the names and bytes of its files. Up to a gigabyte is copied, sharing its
blocks where the file system can, so that a revision gets its bytes whatever becomes of the folder
they came from. More is used where it is, and compared before a pod starts. What was read once is
not read again as long as no file shows a change (size, times, inode).

The control process pins and collects, the node looks up; both by the files alone. All of it blocks:
call it in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

COPY_LIMIT = 1 << 30
"""Bytes up to which a model is copied."""
_CHUNK = 1 << 20
_FICLONE = 0x40049409
_SETTLED = 2.0
"""Seconds after its last change from which on a file's times tell of every further change."""
_SEEN = "seen"
"""The folder of notes on what large models were when they were read."""
_WORTH_A_NOTE = 64 << 20
_DEEPEST = 30


class Unreadable(Exception):
    """The files cannot be read as they are now."""


@dataclass(frozen=True)
class _File:
    """One file as it looks without being read."""

    name: str
    path: Path
    size: int
    mark: tuple[int, ...]
    changed: float


class ModelCache:
    """Models by their digest, below one folder.

    Args:
        copy_limit: bytes up to which a model is copied.
    """

    def __init__(self, root: Path, *, copy_limit: int = COPY_LIMIT) -> None:
        self._root = root
        self._copy_limit = copy_limit
        self._known: dict[Path, tuple[str, str]] = {}
        self._readers = threading.Semaphore(2)

    def pin(self, source: Path) -> str:
        """The digest of what is there now; from now on that can be found, if it is small enough.

        Raises:
            Unreadable: it is not there, or changes while it is read.
        """
        files = _scan(source)
        large = sum(file.size for file in files) > self._copy_limit
        known = self._recall(source, files)
        if known and (large or self._place(known).exists()):
            return known
        with self._readers:
            started = time.time()
            digest = _digest(files) if large else self._copy(files)
            return self._remember(source, files, digest, started)

    def find(self, digest: str, source: Path, *, single: bool = False) -> Path | None:
        """Where the bytes of `digest` are: the copy, else the source if it has them still.

        Args:
            single: the source is one file.

        Raises:
            Unreadable: the source is not there, or changes while it is read.
        """
        place = self._place(digest)
        if place.exists():
            return place / source.name if single else place
        return source if self.digest(source) == digest else None

    def digest(self, source: Path) -> str:
        """The digest of what is there now.

        Raises:
            Unreadable: it is not there, or changes while it is read.
        """
        files = _scan(source)
        known = self._recall(source, files)
        if known:
            return known
        with self._readers:
            started = time.time()
            return self._remember(source, files, _digest(files), started)

    def collect(self, used: Collection[str], *, spare_seconds: float) -> list[str]:
        """Delete copies that nobody uses and that are not new; their names."""
        gone = []
        limit = time.time() - spare_seconds
        kept = {self._place(digest) for digest in used} | {self._root / _SEEN}
        for place in sorted(self._root.glob("*")):
            with contextlib.suppress(OSError):
                if place not in kept and place.stat().st_ctime < limit:
                    _remove(place)
                    gone.append(place.name)
        return gone

    def _place(self, digest: str) -> Path:
        return self._root / digest.replace(":", "-", 1)

    def _copy(self, files: list[_File]) -> str:
        """Copy first and read the copy: what is kept is what was counted."""
        draft = self._root / f"new-{uuid.uuid4().hex}"
        try:
            draft.mkdir(parents=True)
            copies = []
            for file in files:
                target = draft / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                _clone(file.path, target)
                copies.append(replace(file, path=target))
            digest = _digest(copies)
            _protect(draft)
            with contextlib.suppress(OSError):
                # Somebody else may have been quicker.
                draft.rename(self._place(digest))
            return digest
        except OSError as error:
            raise Unreadable(f"It cannot be copied to {self._root}: {error}.") from error
        finally:
            if draft.exists():
                _remove(draft)

    # -- what was read before --------------------------------------------------------------

    def _recall(self, source: Path, files: list[_File]) -> str:
        signature = _signature(files)
        known = self._known.get(source)
        if known is None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                stored = json.loads(self._note(source).read_text())
                known = (str(stored["signature"]), str(stored["digest"]))
                self._known[source] = known
        return known[1] if known is not None and known[0] == signature else ""

    def _remember(self, source: Path, files: list[_File], digest: str, started: float) -> str:
        if _signature(_scan(source)) != (signature := _signature(files)):
            raise Unreadable(f"{source} changes while it is read.")
        newest = max((file.changed for file in files), default=0.0)
        if started - newest > _SETTLED:
            self._known[source] = (signature, digest)
            if sum(file.size for file in files) > _WORTH_A_NOTE:
                note = self._note(source)
                note.parent.mkdir(parents=True, exist_ok=True)
                draft = note.with_name(f"{note.name}.{uuid.uuid4().hex}")
                draft.write_text(json.dumps({"signature": signature, "digest": digest}))
                draft.replace(note)
        return digest

    def _note(self, source: Path) -> Path:
        return self._root / _SEEN / hashlib.sha256(os.fsencode(source)).hexdigest()


def _scan(source: Path) -> list[_File]:
    """The files of a model in the order of their names."""
    try:
        found = list(_walk(source, ""))
    except OSError as error:
        raise Unreadable(f"{source} cannot be read: {error.strerror}.") from error
    return sorted(found, key=lambda file: file.name)


def _walk(path: Path, name: str) -> Iterator[_File]:
    """Links are followed, once per file; sockets and the like are left out."""
    status = path.stat()
    if stat.S_ISREG(status.st_mode):
        mark = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        changed = max(status.st_mtime, status.st_ctime)
        yield _File(name or path.name, path, status.st_size, mark, changed)
    elif stat.S_ISDIR(status.st_mode):
        if name.count("/") > _DEEPEST:
            raise OSError(40, f"folders lead into themselves at {path}")
        for entry in sorted(os.listdir(path)):
            child = path / entry
            with contextlib.suppress(FileNotFoundError):
                yield from _walk(child, f"{name}/{entry}" if name else entry)


def _signature(files: list[_File]) -> str:
    """What changes when any of the files does, without reading them."""
    marks = [(file.name, file.mark) for file in files]
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()


def _digest(files: list[_File]) -> str:
    whole = hashlib.sha256()
    for file in files:
        try:
            with file.path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise Unreadable(f"{file.path} cannot be read: {error.strerror}.") from error
        whole.update(f"{content}  {file.name}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _clone(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can."""
    with source.open("rb") as read, target.open("wb") as written:
        try:
            fcntl.ioctl(written.fileno(), _FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, written, _CHUNK)
    target.chmod(0o444)


def _protect(folder: Path) -> None:
    """Nobody writes here by mistake."""
    for place in (folder, *folder.rglob("*")):
        if place.is_dir():
            place.chmod(0o555)
    folder.chmod(0o755)


def _remove(folder: Path) -> None:
    for place in (folder, *folder.rglob("*")):
        if place.is_dir():
            place.chmod(0o755)
    shutil.rmtree(folder)
