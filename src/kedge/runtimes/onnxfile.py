"""What an ONNX file says of itself, read from its bytes: no framework, nothing run.

ONNX is a protocol buffer. The fields that matter are few and stand in the outermost messages, so
the file is walked, not decoded: weights are stepped over, whatever their size.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kedge.server.errors import ModelLoadFailed

Field = int | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELD_NUMBER = 1000


@dataclass(frozen=True)
class OnnxFacts:
    """What could be read.

    Attributes:
        ir: version of the file format.
        producer: the program that wrote it, with its version.
        opsets: version of each operator set, by domain; ONNX's own is "ai.onnx".
        custom: operators of domains that are not ONNX's or ONNX Runtime's, by domain.
        data_files: files with weights that belong beside it.
    """

    ir: int
    producer: str
    opsets: dict[str, int]
    custom: dict[str, tuple[str, ...]]
    data_files: tuple[str, ...]

    def describe(self) -> str:
        opsets = ", ".join(f"{domain} {version}" for domain, version in self.opsets.items())
        by = f", written by {self.producer}" if self.producer else ""
        return f"IR version {self.ir}, operator sets {opsets or 'none'}{by}"


class _Damaged(Exception):
    """The bytes are no protocol buffer, or end too early."""


def read_facts(path: Path) -> OnnxFacts:
    """The facts of an ONNX file; one that is none, or is cut short, is refused."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        try:
            return _facts(view)
        except _Damaged as error:
            raise ModelLoadFailed(
                f"{path} ({len(view)} bytes) is no complete ONNX model: {error}.",
                fix="Export the model again and check that the upload was complete.",
            ) from error.with_traceback(None)


def _facts(view: memoryview) -> OnnxFacts:
    ir, producer, version = 0, "", ""
    opsets: dict[str, int] = {}
    custom: dict[str, dict[str, None]] = {}
    data_files: dict[str, None] = {}
    has_graph = False
    for number, value in _fields(view):
        if number == 1 and isinstance(value, int):
            ir = value
        elif number == 2:
            producer = _text(value)
        elif number == 3:
            version = _text(value)
        elif number == 7 and isinstance(value, memoryview):
            has_graph = True
            _read_graph(value, custom, data_files)
        elif number == 8 and isinstance(value, memoryview):
            domain, opset = _opset(value)
            opsets[domain] = opset
    if not has_graph or not ir:
        raise _Damaged("it has no graph" if ir else "it has no IR version, as every ONNX file does")
    return OnnxFacts(
        ir=ir,
        producer=f"{producer} {version}".strip(),
        opsets=opsets,
        custom={domain: tuple(names) for domain, names in custom.items()},
        data_files=tuple(data_files),
    )


def _opset(view: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in _fields(view):
        if number == 1:
            domain = _text(value)
        elif number == 2 and isinstance(value, int):
            version = value
    return domain or "ai.onnx", version


def _read_graph(
    view: memoryview, custom: dict[str, dict[str, None]], data_files: dict[str, None]
) -> None:
    for number, value in _fields(view):
        if number == 1 and isinstance(value, memoryview):
            operator, domain = _node(value)
            if not _is_known(domain):
                custom.setdefault(domain, {})[operator] = None
        elif number == 5 and isinstance(value, memoryview):
            data_files.update(dict.fromkeys(_locations(value)))


def _is_known(domain: str) -> bool:
    return (
        not domain
        or domain.startswith(("ai.onnx", "com.microsoft", "org.pytorch.aten"))
        or (domain == "com.ms.internal.nhwc")
    )


def _node(view: memoryview) -> tuple[str, str]:
    operator = domain = ""
    for number, value in _fields(view):
        if number == 4:
            operator = _text(value)
        elif number == 7:
            domain = _text(value)
    return operator, domain


def _locations(view: memoryview) -> Iterator[str]:
    """The file that holds a tensor's values, where it is not this one."""
    for number, value in _fields(view):
        if number == 13 and isinstance(value, memoryview):
            entry = {key: _text(text) for key, text in _fields(value)}
            if entry.get(1) == "location":
                yield entry.get(2, "")


def _text(value: Field) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def _fields(view: memoryview) -> Iterator[tuple[int, Field]]:
    """The fields of one message, as (number, value)."""
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if not 0 < number < _MOST_FIELD_NUMBER:
            raise _Damaged("it does not look like a protocol buffer")
        value: Field
        if kind == _VARINT:
            value, at = _varint(view, at)
        else:
            length, at = _length(view, at, kind)
            if at + length > end:
                raise _Damaged(f"it ends {at + length - end} bytes too early")
            value, at = view[at : at + length], at + length
        yield number, value


def _length(view: memoryview, at: int, kind: int) -> tuple[int, int]:
    if kind == _BYTES:
        return _varint(view, at)
    if kind in (_FIXED32, _FIXED64):
        return (4 if kind == _FIXED32 else 8), at
    raise _Damaged("it does not look like a protocol buffer")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while shift < 70:
        if at >= len(view):
            raise _Damaged("it ends within a number")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
    raise _Damaged("it does not look like a protocol buffer")
