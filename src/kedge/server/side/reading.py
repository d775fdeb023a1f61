"""The side process: bodies in, arrays and pieces out, one after the other.

Run as a module, with the number of its socket. It ends when the server does: the socket says so.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kedge.protocol import v1
from kedge.protocol.compression import decompress
from kedge.protocol.errors import PayloadTooLarge, ServingError
from kedge.protocol.inference import InferRequest, Tensor
from kedge.protocol.open_inference import rest
from kedge.server.side import wire
from kedge.server.side.wire import Output, Question, TensorPlace, Told, Writer

NICENESS = 5
_NO_ROOM = PayloadTooLarge(
    "There is not enough memory to read this JSON.",
    fix="Send large tensors in binary form (Inference-Header-Content-Length) or over gRPC.",
)
_question = msgspec.msgpack.Decoder(Question)


def main(arguments: list[str]) -> None:
    """Answers until the other end of the socket is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # The server's end is ours, and not before it.
    _give_way()
    gc.freeze()
    gc.disable()  # Nothing here makes cycles, and a large list is long to look through.
    with socket.socket(fileno=int(arguments[0])) as link:
        while True:
            number, files, _, _ = socket.recv_fds(link, wire.NUMBER.size, 1)
            if not number:
                return
            answer = answered(files[0])
            try:
                socket.send_fds(link, [number], [answer])
            finally:
                os.close(answer)


def _give_way() -> None:
    """To the server, when both want the same core or the machine is out of memory."""
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def answered(file: int) -> int:
    """The file that answers `file`, which is closed."""
    try:
        view = memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(file)
    (length,) = wire.LENGTH.unpack_from(view)
    start = wire.LENGTH.size + length
    question = _question.decode(view[wire.LENGTH.size : start])
    writer = Writer()
    try:
        told = read(question, view[start:], writer)
    except ServingError as error:
        told, writer = Told(error=(error.reason, str(error))), Writer()
    except MemoryError:
        told, writer = Told(error=(_NO_ROOM.reason, str(_NO_ROOM))), Writer()
    head = msgspec.msgpack.encode(told)
    return wire.new_file([wire.LENGTH.pack(len(head)), head, *writer.parts])


def read(question: Question, body: memoryview, writer: Writer) -> Told:
    """What the body says; what is large in it goes to `writer`."""
    if question.encoding:
        plain = decompress(body, question.encoding.encode("latin-1"), question.limit)
        body = memoryview(plain)
    if question.protocol == "v2":
        request = rest.decode_request(
            body, question.model, question.version, question.json_length, question.request_id
        )
        return _request(request, writer)
    return _payload(question, v1.decode_request(body, question.content_type), writer)


def _request(request: InferRequest, writer: Writer) -> Told:
    return Told(
        id=request.id,
        parameters=request.parameters,
        inputs=[_tensor(tensor, writer) for tensor in request.inputs],
        outputs=[Output(one.name, one.parameters) for one in request.outputs or []],
        raw=request.raw,
    )


def _tensor(tensor: Tensor, writer: Writer) -> TensorPlace:
    array = tensor.array
    place = writer.value(tensor.data) if tensor.datatype == "BYTES" else writer.array(array)
    return TensorPlace(tensor.name, tensor.datatype, array.shape, tensor.parameters, place)


def _payload(question: Question, payload: Any, writer: Writer) -> Told:
    if isinstance(payload, memoryview):
        return Told()
    if question.rows and isinstance(payload, dict) and "specversion" not in payload:
        told = _rows(question, payload, writer)
        if told is not None:
            return told
    return Told(value=writer.value(payload))


def _rows(question: Question, payload: dict[str, Any], writer: Writer) -> Told | None:
    columns = question.columns if v1.holds_objects(payload) else None
    rows = v1.rows(payload, columns)
    if isinstance(rows, v1.Columns):
        return Told(columns=[(name, writer.value(one)) for name, one in rows.values.items()])
    if isinstance(rows, list):
        return Told(rows=writer.value(rows))
    return None if rows.dtype.kind == "O" else Told(rows=writer.array(np.asarray(rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
