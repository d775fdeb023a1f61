"""What an ONNX file says of itself, read from its bytes: no framework, nothing run.

ONNX is a protocol buffer, walked by `protobuf`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kedge.runtimes.protobuf import Damaged, fields, text
from kedge.server.errors import ModelLoadFailed


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


def read_facts(path: Path) -> OnnxFacts:
    """The facts of an ONNX file; one that is none, or is cut short, is refused."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        try:
            return _facts(view)
        except Damaged as error:
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
    for number, value in fields(view):
        if number == 1 and isinstance(value, int):
            ir = value
        elif number == 2:
            producer = text(value)
        elif number == 3:
            version = text(value)
        elif number == 7 and isinstance(value, memoryview):
            has_graph = True
            _read_graph(value, custom, data_files)
        elif number == 8 and isinstance(value, memoryview):
            domain, opset = _opset(value)
            opsets[domain] = opset
    if not has_graph or not ir:
        raise Damaged("it has no graph" if ir else "it has no IR version, as every ONNX file does")
    return OnnxFacts(
        ir=ir,
        producer=f"{producer} {version}".strip(),
        opsets=opsets,
        custom={domain: tuple(names) for domain, names in custom.items()},
        data_files=tuple(data_files),
    )


def _opset(view: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in fields(view):
        if number == 1:
            domain = text(value)
        elif number == 2 and isinstance(value, int):
            version = value
    return domain or "ai.onnx", version


def _read_graph(
    view: memoryview, custom: dict[str, dict[str, None]], data_files: dict[str, None]
) -> None:
    for number, value in fields(view):
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
    for number, value in fields(view):
        if number == 4:
            operator = text(value)
        elif number == 7:
            domain = text(value)
    return operator, domain


def _locations(view: memoryview) -> Iterator[str]:
    """The file that holds a tensor's values, where it is not this one."""
    for number, value in fields(view):
        if number == 13 and isinstance(value, memoryview):
            entry = {key: text(one) for key, one in fields(value)}
            if entry.get(1) == "location":
                yield entry.get(2, "")
