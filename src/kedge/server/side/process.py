"""The keeper of the side process: starts it when it is first needed, and again when it has died."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

import kedge
from kedge.protocol.datatypes import Array
from kedge.protocol.errors import (
    DecodingFailed,
    InvalidInput,
    Overloaded,
    PayloadTooLarge,
    ServingError,
)
from kedge.protocol.inference import InferRequest, RequestedOutput, Tensor
from kedge.protocol.v1 import Columns, Prepared
from kedge.server.limits import DEFAULT_LIMITS, Limits
from kedge.server.log import logger
from kedge.server.side import wire
from kedge.server.side.turns import in_turns
from kedge.server.side.wire import Question, TensorPlace, Told

IDLE_SECONDS = 60.0
READING_SECONDS = 60.0
_ATTEMPTS = 2
_WRITE_BYTES = 512 * 1024
_TEXTS = 2048
_MODULE = "kedge.server.side.reading"
_ERRORS: dict[str, type[ServingError]] = {
    one.reason: one for one in (ServingError, InvalidInput, PayloadTooLarge)
}
_told = msgspec.msgpack.Decoder(Told)


class _Ended(Exception):
    """The side process is no more."""


class _Running(NamedTuple):
    process: subprocess.Popen[bytes]
    link: socket.socket


class SideProcess:
    """One side process, asked one body at a time.

    Attributes:
        held: bytes of the bodies that are being read or wait for it.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS, *, module: str = _MODULE) -> None:
        self.limits = limits
        self.held = 0
        self._module = module
        self._turn = asyncio.Lock()
        self._running: _Running | None = None
        self._asked: asyncio.Future[int] | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._number = 0
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Future[Any]] = set()

    @property
    def pid(self) -> int | None:
        return self._running.process.pid if self._running is not None else None

    async def read(self, question: Question, body: Sequence[bytes]) -> Any:
        """The payload in a body, or the error that its client is told.

        Who is cancelled leaves at once; the side process finishes what it was asked.
        """
        size = sum(map(len, body))
        if self.held and self.held + size > self.limits.waiting_bytes:
            raise Overloaded(
                f"There are {self.held >> 20} MiB of large JSON waiting to be read, which is all "
                "that this server holds.",
                fix="Try again later, or send large tensors in binary form or over gRPC.",
            )
        self.held += size
        try:
            async with self._turn:
                view = await self._answer(question, body)
            return await _payload(view, question, body)
        finally:
            self.held -= size

    # -- asking ----------------------------------------------------------------------------------

    async def _answer(self, question: Question, body: Sequence[bytes]) -> memoryview:
        head = msgspec.msgpack.encode(question)
        file = wire.new_file([wire.LENGTH.pack(len(head)), head])
        try:
            await in_turns(_written(file, body))
            return await self._attempts(file)
        finally:
            os.close(file)
            self._rest_later()

    async def _attempts(self, file: int) -> memoryview:
        for _ in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(READING_SECONDS):
                    return await self._exchange(file)
            except _Ended:
                logger.warning("the side process for large JSON has ended while it was reading")
            except TimeoutError:
                logger.warning("the side process for large JSON took too long")
                self._end()
        raise DecodingFailed(
            "The request's JSON could not be read: the process that does it ended twice.",
            fix="Send large tensors in binary form (Inference-Header-Content-Length) or over gRPC, "
            "or raise the predictor's limits.memory.",
        )

    async def _exchange(self, file: int) -> memoryview:
        await self._free.wait()
        running = self._running or self._start()
        self._number += 1
        try:
            socket.send_fds(running.link, [wire.NUMBER.pack(self._number)], [file])
        except OSError as error:
            self._end()
            raise _Ended from error
        self._free.clear()
        self._asked = asyncio.get_running_loop().create_future()
        answer = await self._asked
        try:
            return memoryview(mmap.mmap(answer, 0))
        finally:
            os.close(answer)

    def _readable(self) -> None:
        assert self._running is not None
        try:
            number, files, _, _ = socket.recv_fds(self._running.link, wire.NUMBER.size, 1)
        except BlockingIOError:
            return
        except OSError:
            number, files = b"", []
        if not number or not files:
            self._end()
            return
        asked, self._asked = self._asked, None
        self._free.set()
        if asked is None or asked.done():
            os.close(files[0])  # Who asked has gone.
        else:
            asked.set_result(files[0])

    # -- its life --------------------------------------------------------------------------------

    def _start(self) -> _Running:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            process = self._spawn(theirs.fileno())
        except OSError as error:
            ours.close()
            raise _Ended from error
        finally:
            theirs.close()
        self._running = _Running(process, ours)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)
        return self._running

    def _spawn(self, link: int) -> subprocess.Popen[bytes]:
        source = str(Path(kedge.__file__).parents[1])
        path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", self._module, str(link)],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            pass_fds=(link,),
        )

    def _rest_later(self) -> None:
        """Nobody needs it for a while: its memory is given back."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest)

    def _rest(self) -> None:
        if self.held or not self._free.is_set():
            self._rest_later()
        else:
            self._end()

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(running.link.fileno())
            running.link.close()
            running.process.kill()
            reaped = loop.run_in_executor(None, running.process.wait)
            self._ending.add(reaped)
            reaped.add_done_callback(self._ending.discard)
        asked, self._asked = self._asked, None
        self._free.set()
        if asked is not None and not asked.done():
            asked.set_exception(_Ended())

    async def close(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._end()
        with contextlib.suppress(OSError):
            await asyncio.gather(*self._ending)


async def _payload(view: memoryview, question: Question, body: Sequence[bytes]) -> Any:
    """What the side process told of a body, as the payload that a model gets."""
    (length,) = wire.LENGTH.unpack_from(view)
    start = wire.LENGTH.size + length
    told = _told.decode(view[wire.LENGTH.size : start])
    rest = view[start:]
    if told.error is not None:
        reason, message = told.error
        raise _ERRORS.get(reason, InvalidInput)(message)
    if told.inputs is not None:
        return await in_turns(_request(question, told, told.inputs, rest))
    if told.columns is not None:
        columns = {name: await _value(rest, place) for name, place in told.columns}
        return Prepared(Columns(columns))
    if told.rows is not None:
        rows = wire.array_at(rest, told.rows) if told.rows.dtype else await _value(rest, told.rows)
        return Prepared(rows)
    if told.value is not None:
        return await _value(rest, told.value)
    return b"".join(body)


async def _value(view: memoryview, place: wire.Place) -> Any:
    return await in_turns(wire.rebuilt(_at(view, place)))


def _at(view: memoryview, place: wire.Place) -> memoryview:
    return view[place.offset : place.offset + place.length]


def _written(file: int, body: Sequence[bytes]) -> Generator[None, None, None]:
    """Writes a body into a file, in parts that take little time each."""
    for chunk in body:
        for start in range(0, len(chunk), _WRITE_BYTES):
            wire.write(file, [memoryview(chunk)[start : start + _WRITE_BYTES]])
            yield


def _request(
    question: Question, told: Told, inputs: list[TensorPlace], view: memoryview
) -> Generator[None, None, InferRequest]:
    tensors = []
    for one in inputs:
        tensors.append((yield from _tensor(one, view)))
    return InferRequest(
        model_name=question.model,
        inputs=tensors,
        id=told.id,
        model_version=question.version,
        parameters=told.parameters,
        outputs=[RequestedOutput(one.name, one.parameters) for one in told.outputs or []] or None,
        raw=told.raw,
    )


def _tensor(one: TensorPlace, view: memoryview) -> Generator[None, None, Tensor]:
    if one.place.dtype:
        array = wire.array_at(view, one.place)
        return Tensor(one.name, one.datatype, one.shape, array, one.parameters)
    elements = yield from wire.rebuilt(_at(view, one.place))
    array = yield from _bytes_array(elements, one.shape)
    if elements and isinstance(elements[0], str):
        return Tensor.from_texts(one.name, array, elements, one.parameters)
    return Tensor(one.name, one.datatype, one.shape, array, one.parameters)


def _bytes_array(elements: list[Any], shape: tuple[int, ...]) -> Generator[None, None, Array]:
    array: Array = np.empty(len(elements), dtype=object)
    for start in range(0, len(elements), _TEXTS):
        some = elements[start : start + _TEXTS]
        array[start : start + len(some)] = [
            one.encode() if isinstance(one, str) else one for one in some
        ]
        yield
    return array.reshape(shape)
