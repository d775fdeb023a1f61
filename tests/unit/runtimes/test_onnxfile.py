"""ONNX files read without ONNX: written here by hand, byte by byte."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from kedge.runtimes.onnxfile import read_facts
from kedge.server.errors import ModelLoadFailed


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def opset(version: int, domain: bytes = b"") -> bytes:
    return block(8, (block(1, domain) if domain else b"") + number(2, version))


def node(operator: bytes, domain: bytes = b"") -> bytes:
    return block(1, block(4, operator) + (block(7, domain) if domain else b""))


def weight(location: bytes) -> bytes:
    where = block(13, block(1, b"location") + block(2, location))
    offset = block(13, block(1, b"offset") + block(2, b"0"))
    return block(5, block(8, b"w") + where + offset)


def model(graph: bytes = node(b"Add")) -> bytes:
    head = number(1, 10) + block(2, b"pytorch") + block(3, b"2.4")
    return head + block(7, graph) + opset(20) + opset(3, b"ai.onnx.ml")


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def test_what_a_model_says(tmp_path: Path) -> None:
    facts = read_facts(written(tmp_path, model()))
    assert (facts.ir, facts.producer) == (10, "pytorch 2.4")
    assert facts.opsets == {"ai.onnx": 20, "ai.onnx.ml": 3}
    assert (facts.custom, facts.data_files) == ({}, ())
    assert facts.describe() == (
        "IR version 10, operator sets ai.onnx 20, ai.onnx.ml 3, written by pytorch 2.4"
    )


def test_operators_of_others_and_weights_elsewhere(tmp_path: Path) -> None:
    graph = node(b"Add") + node(b"Gelu", b"com.microsoft") + node(b"Spin", b"acme") * 2
    facts = read_facts(written(tmp_path, model(graph + weight(b"w.bin") * 2 + weight(b"v.bin"))))
    assert facts.custom == {"acme": ("Spin",)}
    assert facts.data_files == ("w.bin", "v.bin")


@pytest.mark.parametrize("content", [b"\x80\x04pickle", b"tree\n", b"\x00", number(1, 10)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelLoadFailed, match="is no complete ONNX model"):
        read_facts(written(tmp_path, content))


def test_a_model_cut_anywhere_in_its_graph_is_refused(tmp_path: Path) -> None:
    whole = model(node(b"Add") * 20)
    for end in range(1, len(whole) - len(opset(20) + opset(3, b"ai.onnx.ml"))):
        with pytest.raises(ModelLoadFailed):
            read_facts(written(tmp_path, whole[:end]))


@settings(deadline=None, max_examples=50)
@given(content=some.binary(min_size=1, max_size=200))
def test_any_bytes_are_answered(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with suppress(ModelLoadFailed):
        read_facts(written(tmp_path_factory.getbasetemp(), content))
