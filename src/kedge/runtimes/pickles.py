"""What a pickle needs, read from its bytes and never by running it.

A joblib file is a pickle with raw arrays between its opcodes, which a pickle disassembler cannot
cross. So the bytes are searched for the few shapes that matter: references to classes, and the
version that scikit-learn writes beside its estimators.
"""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import lzma
import mmap
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_SCAN_BYTES = 256 << 20

_VERSION = re.compile(
    rb"_sklearn_version(?:\x94|q.|r....)?(?:\x8c(?P<short>.)|X(?P<long>.)\x00\x00\x00)(?=\d)",
    re.DOTALL,
)
_GLOBAL = re.compile(rb"c((?:[A-Za-z_]\w*)(?:\.\w+)*)\n([A-Za-z_]\w*)\n")
_STACK_GLOBAL = re.compile(
    rb"\x8c(.)([A-Za-z_][\w.]*)\x94(?:\x8c(.)([A-Za-z_][\w.]*)\x94|h.|j....)\x93", re.DOTALL
)


@dataclass(frozen=True)
class PickleFacts:
    """What could be read.

    Attributes:
        sklearn_version: of the library that trained the model; empty when it does not say.
        classes: what it refers to, by module.
        readable: the bytes could be searched (an unknown compression cannot).
    """

    sklearn_version: str = ""
    classes: dict[str, tuple[str, ...]] | None = None
    readable: bool = True

    def missing_modules(self) -> dict[str, tuple[str, ...]]:
        """Top-level modules that are needed and not installed, with what is needed of them."""
        missing: dict[str, tuple[str, ...]] = {}
        for module, names in (self.classes or {}).items():
            top = module.partition(".")[0]
            if top != "__main__" and not _installed(top):
                wanted = tuple(f"{module}.{name}" for name in names)
                missing[top] = missing.get(top, ()) + wanted
        return missing

    def notebook_classes(self) -> tuple[str, ...]:
        """Classes that were defined in a notebook or script, which no other process has."""
        return (self.classes or {}).get("__main__", ())


def read_facts(path: Path) -> PickleFacts:
    """The facts in a pickle or joblib file, plain or compressed."""
    with path.open("rb") as file:
        head = file.read(2)
        if head[:1] == b"\x78":
            return facts_in(_inflate(file, head))
        if unpacked := _unpack(path, head):
            return unpacked
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return facts_in(content)


def _unpack(path: Path, head: bytes) -> PickleFacts | None:
    """The facts of a compressed file; None when it is of no compression known here."""
    opener: dict[bytes, Any] = {
        b"\x1f\x8b": gzip.open,
        b"BZ": bz2.open,
        b"\xfd7": lzma.open,
        b"\x5d\x00": lzma.open,
    }
    if head not in opener:
        return None
    try:
        with opener[head](path, "rb") as unpacked:
            return facts_in(unpacked.read(_SCAN_BYTES))
    except (OSError, EOFError, lzma.LZMAError):
        return PickleFacts(readable=False)


def _inflate(file: IO[bytes], head: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(head + file.read(), _SCAN_BYTES)
    except zlib.error:
        return b""


def facts_in(content: bytes | mmap.mmap) -> PickleFacts:
    """The facts in the bytes of a pickle."""
    version = _VERSION.search(content)
    classes: dict[str, dict[str, None]] = {}
    for match in _GLOBAL.finditer(content):
        classes.setdefault(match[1].decode(), {})[match[2].decode()] = None
    for match in _STACK_GLOBAL.finditer(content):
        if match[1][0] != len(match[2]) or (match[3] and match[3][0] != len(match[4])):
            continue
        names = classes.setdefault(match[2].decode(), {})
        if match[4]:
            names[match[4].decode()] = None
    return PickleFacts(
        sklearn_version=_text_after(content, version) if version else "",
        classes={module: tuple(names) for module, names in classes.items()},
    )


def _text_after(content: bytes | mmap.mmap, match: re.Match[bytes]) -> str:
    length = (match["short"] or match["long"])[0]
    return content[match.end() : match.end() + length].decode("utf-8", "replace")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
