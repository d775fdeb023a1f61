"""One gRPC client's connection: streams, windows, limits.

Everything a peer can make grow is bounded: header blocks, frames, streams, messages, bytes held
for the whole connection, and control frames per second. Answers are written once per batch of
received frames, within the peer's windows; what does not fit waits for its WINDOW_UPDATE.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from kedge.protocol.errors import (
    DeadlineExceeded,
    GrpcCode,
    InvalidInput,
    PayloadTooLarge,
    ServingError,
    grpc_code,
)
from kedge.server.batching import Job
from kedge.server.grpc import frames, head
from kedge.server.grpc.frames import ConnectionFault, ErrorCode, Frame
from kedge.server.grpc.head import Head, HeadDecoder
from kedge.server.grpc.inbox import Inbox
from kedge.server.limits import MIB, Limits
from kedge.server.log import logger
from kedge.server.request_id import chosen

if TYPE_CHECKING:
    from kedge.server.grpc.service import GrpcServer

Answer = bytes | Job | Coroutine[Any, Any, bytes]
Handler = Callable[["Stream", memoryview], Answer]
StreamHandler = Callable[["Stream", AsyncGenerator[memoryview, None]], AsyncGenerator[bytes, None]]

MAX_STREAMS = 1024
STREAM_WINDOW = 8 * MIB
CONNECTION_WINDOW = 16 * MIB
FRAME_SIZE = 1 * MIB
HELD_BYTES = 256 * MIB
CONTROL_FRAMES = 4096
_JOINED_BYTES = 64 * 1024
_PREFIX = struct.Struct(">BL")


class GrpcFailure(ServingError):
    """A call that gRPC itself refuses, with its own code."""

    def __init__(self, code: GrpcCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Stream:
    """One call.

    Attributes:
        request_id: the client's, or a new one.
        window: bytes the peer allows us to send.
        received: bytes of DATA since the window was last opened.
        remote_open: the peer may still send.
        out: what waits for the peer's window, and the trailers after it.
        inbox: of a streaming call: what the client has said and nobody has heard.
        begun: the answer's headers are out.
        room: of a streaming call: `out` is empty.
    """

    __slots__ = ("begun", "chunks", "head", "id", "inbox", "job", "out", "received",
                 "remote_open", "request_id", "room", "size", "task", "timer", "trailers",
                 "window")  # fmt: skip

    def __init__(self, identity: int, call: Head, window: int) -> None:
        self.id = identity
        self.head = call
        self.request_id = chosen(call.request_id)
        self.window = window
        self.chunks: list[bytes] = []
        self.size = 0
        self.received = 0
        self.remote_open = True
        self.task: asyncio.Task[None] | None = None
        self.job: Job | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.out = memoryview(b"")
        self.trailers = b""
        self.inbox: Inbox | None = None
        self.begun = False
        self.room: asyncio.Event | None = None


class GrpcConnection(asyncio.Protocol):
    """See the module."""

    def __init__(self, server: GrpcServer, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._limits = limits
        self._loop = loop
        self._reader = frames.FrameReader(FRAME_SIZE)
        self._heads = HeadDecoder(limits.head_bytes)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._preface: bytes | None = b""
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        self._out: list[bytes] = []
        self._receiving = False
        self._flushing = False
        self._block: tuple[int, int, bytearray] | None = None
        self._send_window = frames.DEFAULT_WINDOW
        self._initial_window = frames.DEFAULT_WINDOW
        self._frame_size = frames.DEFAULT_FRAME_SIZE
        self._unacknowledged = 0
        self._held = 0
        self._control = 0
        self._waiting: deque[Stream] = deque()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._writable = asyncio.Event()
        self._writable.set()

    # -- life ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        self._last = self._server.now
        self._timer = self._loop.call_later(self._limits.head_seconds, self._silent)
        self._write(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    frames.MAX_FRAME_SIZE: FRAME_SIZE,
                    frames.MAX_HEADER_LIST_SIZE: self._limits.head_bytes,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for stream in self._streams.values():
            self._cancel(stream)
        self._streams.clear()

    def _silent(self) -> None:
        """No preface came."""
        self._timer = None
        if self._preface is not None:
            self._transport.close()

    @property
    def busy(self) -> bool:
        return bool(self._streams)

    def tick(self, now: float) -> None:
        """Once a second."""
        self._control = 0
        if self._streams:
            self._last = now
        elif self._last < now - self._limits.keep_alive_seconds * 4:
            self.close()

    def drain(self) -> None:
        """Asks the peer to open its next call on another connection."""
        self._write(frames.goaway(frames.LARGEST_WINDOW, ErrorCode.NO_ERROR))
        for stream in self._streams.values():
            if stream.inbox is not None:
                stream.inbox.end()  # What was said is answered; then the call ends.
        self._flush()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._write(frames.goaway(self._last_stream, ErrorCode.NO_ERROR))
            self._flush()
            self._transport.close()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        self._transport.resume_reading()

    # -- receiving -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._receiving = True
        try:
            if self._preface is not None:
                rest = self._read_preface(data)
                if rest is None:
                    return
                data = rest
            for one in self._reader.feed(data):
                self._on_frame(one)
        except ConnectionFault as fault:
            self._write(frames.goaway(self._last_stream, fault.code, str(fault)))
            self._closing = True
        except Exception:
            logger.exception("a gRPC connection failed")
            self._write(frames.goaway(self._last_stream, ErrorCode.INTERNAL_ERROR))
            self._closing = True
        finally:
            self._receiving = False
            self._flush()
            if self._closing:
                self._transport.close()

    def _read_preface(self, data: bytes) -> bytes | None:
        have = (self._preface or b"") + data
        if not frames.PREFACE.startswith(have[: len(frames.PREFACE)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks gRPC (HTTP/2) only")
        if len(have) < len(frames.PREFACE):
            self._preface = have
            return None
        self._preface = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return have[len(frames.PREFACE) :]

    def _on_frame(self, one: Frame) -> None:
        kind = one.kind
        if self._block is not None and kind != frames.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION expected")
        if kind == frames.DATA:
            self._on_data(one)
        elif kind == frames.HEADERS:
            self._on_headers(one)
        elif kind == frames.WINDOW_UPDATE:
            self._on_window_update(one)
        else:
            self._control += 1
            if self._control > CONTROL_FRAMES:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many control frames")
            self._on_control(one)

    def _on_control(self, one: Frame) -> None:
        if one.kind == frames.PING:
            if one.stream or len(one.payload) != 8:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "malformed PING")
            if not one.flags & frames.ACK:
                self._write(frames.frame(frames.PING, frames.ACK, 0, one.payload))
        elif one.kind == frames.SETTINGS:
            self._on_settings(one)
        elif one.kind == frames.RST_STREAM:
            self._known(one)
            frames.read_word(one.payload)
            self._drop(one.stream)
        elif one.kind == frames.CONTINUATION:
            self._on_continuation(one)
        elif one.kind == frames.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
        # PRIORITY, GOAWAY and unknown frames ask nothing of us.

    def _known(self, one: Frame) -> None:
        if one.stream == 0 or one.stream > self._last_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"stream {one.stream} is idle")

    def _on_settings(self, one: Frame) -> None:
        if one.stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS belongs to the connection")
        if one.flags & frames.ACK:
            return
        for name, value in frames.read_settings(one.payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.LARGEST_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window too large")
                for stream in self._streams.values():
                    stream.window += value - self._initial_window
                self._initial_window = value
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "impossible frame size")
                self._frame_size = min(value, FRAME_SIZE)
        self._write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._send_waiting()

    def _on_window_update(self, one: Frame) -> None:
        increment = frames.read_word(one.payload) & frames.LARGEST_WINDOW
        if one.stream == 0:
            self._send_window += increment
            if not increment or self._send_window > frames.LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "impossible window")
        else:
            self._known(one)
            stream = self._streams.get(one.stream)
            if stream is None:
                return
            stream.window += increment
            if not increment or stream.window > frames.LARGEST_WINDOW:
                self._reset(stream.id, ErrorCode.FLOW_CONTROL_ERROR)
                return
        if self._waiting:
            self._send_waiting()

    # -- a call comes in -------------------------------------------------------------------------

    def _on_headers(self, one: Frame) -> None:
        payload = frames.unpadded(one)
        if one.flags & frames.END_HEADERS:
            self._on_block(one.stream, one.flags, payload)
        else:
            self._block = (one.stream, one.flags, bytearray(payload))

    def _on_continuation(self, one: Frame) -> None:
        if self._block is None or self._block[0] != one.stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "unexpected CONTINUATION")
        stream, flags, block = self._block
        block += one.payload
        if len(block) > self._limits.head_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "headers too large")
        if one.flags & frames.END_HEADERS:
            self._block = None
            self._on_block(stream, flags, bytes(block))

    def _on_block(self, identity: int, flags: int, block: bytes) -> None:
        call = self._heads.decode(block)
        stream = self._streams.get(identity)
        if stream is not None:  # The client's trailers.
            if not flags & frames.END_STREAM or not stream.remote_open:
                self._reset(identity, ErrorCode.PROTOCOL_ERROR)
                return
            self._end_of_request(stream)
            return
        if not identity % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if identity <= self._last_stream:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"stream {identity} is closed")
        self._last_stream = identity
        if len(self._streams) >= MAX_STREAMS:
            self._control += 1
            self._write(frames.rst_stream(identity, ErrorCode.REFUSED_STREAM))
            return
        stream = Stream(identity, call, self._initial_window)
        self._streams[identity] = stream
        if not call.content_type.startswith(b"application/grpc") or call.method != b"POST":
            self._write_headers(identity, head.UNSUPPORTED_MEDIA_TYPE, end=True)
            self._finish(stream)
            return
        conversation = self._server.streams.get(call.path)
        if conversation is not None:
            stream.inbox = Inbox(self._limits.binary_bytes, partial(self._taken, stream))
            stream.room = asyncio.Event()
            stream.task = self._loop.create_task(self._converse(stream, conversation))
        if flags & frames.END_STREAM:
            self._end_of_request(stream)

    def _on_data(self, one: Frame) -> None:
        length = len(one.payload)
        self._unacknowledged += length
        if self._unacknowledged > CONNECTION_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the window")
        if self._unacknowledged > CONNECTION_WINDOW // 2:
            self._write(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0
        stream = self._streams.get(one.stream)
        if stream is None or not stream.remote_open:
            self._known(one)
            self._control += 1  # Of a stream that was reset: allowed for a while.
            return
        payload = frames.unpadded(one)
        if payload:
            self._hold(stream, payload, length)
        elif not one.flags & frames.END_STREAM:
            self._control += 1
        if one.flags & frames.END_STREAM:
            if stream.id in self._streams:
                self._end_of_request(stream)
        else:
            self._open_window(stream)

    def _open_window(self, stream: Stream) -> None:
        """The peer may send more; on a streaming call only when what it said has been heard."""
        if stream.received <= STREAM_WINDOW // 2 or not stream.remote_open:
            return
        increment = stream.received
        if stream.inbox is not None and stream.inbox.waiting >= STREAM_WINDOW // 2:
            increment = stream.inbox.missing - (STREAM_WINDOW - stream.received)
        if increment > 0:
            self._write(frames.window_update(stream.id, increment))
            stream.received -= increment

    def _hold(self, stream: Stream, payload: bytes, length: int) -> None:
        stream.size += len(payload)
        stream.received += length
        self._held += len(payload)
        if stream.inbox is None:
            stream.chunks.append(payload)
        else:
            try:
                stream.inbox.feed(payload)
            except PayloadTooLarge as error:
                self._cancel(stream)
                self._fail(stream, error)
                return
        if stream.received > STREAM_WINDOW:
            self._reset(stream.id, ErrorCode.FLOW_CONTROL_ERROR)
        elif stream.size > self._limits.binary_bytes + _PREFIX.size:
            self._fail(stream, _too_large(self._limits.binary_bytes))
        elif self._held > HELD_BYTES:
            text = f"This connection has {HELD_BYTES // MIB} MiB of requests under way."
            self._fail(stream, GrpcFailure(GrpcCode.RESOURCE_EXHAUSTED, text))

    def _end_of_request(self, stream: Stream) -> None:
        stream.remote_open = False
        if stream.inbox is not None:
            stream.inbox.end()
            return
        chunks = stream.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._held -= stream.size
        stream.chunks, stream.size = [], 0
        try:
            handler = self._server.methods.get(stream.head.path)
            if handler is None:
                raise GrpcFailure(GrpcCode.UNIMPLEMENTED, "Method not found!")
            message = read_message(body, stream.head.encoding, self._limits.binary_bytes)
            answer = handler(stream, message)
            if isinstance(answer, bytes):
                self._answer(stream, answer)
            elif isinstance(answer, Job):
                self._await_job(stream, answer)
            else:
                stream.task = self._loop.create_task(self._answer_later(stream, answer))
        except ServingError as error:
            self._fail(stream, error)
        except Exception:
            logger.exception("%s failed", stream.head.path.decode("latin-1"))
            self._fail(stream, GrpcFailure(GrpcCode.INTERNAL, "Internal server error"))

    def _await_job(self, stream: Stream, job: Job) -> None:
        stream.job = job
        job.deliver = partial(self._deliver, stream)
        if stream.head.timeout is not None:
            stream.timer = self._loop.call_later(stream.head.timeout, self._overdue, stream)

    def _overdue(self, stream: Stream) -> None:
        self._cancel(stream)
        self._fail(stream, DeadlineExceeded("The client's deadline is over."))
        self._flush()

    def _deliver(self, stream: Stream, job: Job) -> None:
        """Many calls of a connection are answered in one turn, and written at its end."""
        assert job.encode is not None
        stream.job = None
        try:
            self._answer(stream, job.encode(job))
        except ServingError as error:
            self._fail(stream, error)
        except Exception:
            logger.exception("%s failed", stream.head.path.decode("latin-1"))
            self._fail(stream, GrpcFailure(GrpcCode.INTERNAL, "Internal server error"))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self._flush()

    async def _answer_later(self, stream: Stream, answer: Coroutine[Any, Any, bytes]) -> None:
        try:
            async with asyncio.timeout(stream.head.timeout):
                message = await answer
        except TimeoutError:
            self._fail(stream, DeadlineExceeded("The client's deadline is over."))
        except ServingError as error:
            self._fail(stream, error)
        except Exception:
            logger.exception("%s failed", stream.head.path.decode("latin-1"))
            self._fail(stream, GrpcFailure(GrpcCode.INTERNAL, "Internal server error"))
        else:
            self._answer(stream, message)
        finally:
            self._flush()

    # -- a conversation --------------------------------------------------------------------------

    def _taken(self, stream: Stream, size: int) -> None:
        stream.size -= size
        self._held -= size
        self._open_window(stream)
        self._flush()

    async def _heard(self, stream: Stream, inbox: Inbox) -> AsyncGenerator[memoryview, None]:
        async for compressed, message in inbox:
            raw = memoryview(message)
            if compressed:
                raw = memoryview(_decompress(raw, stream.head.encoding, self._limits.binary_bytes))
            yield raw

    async def _converse(self, stream: Stream, handler: StreamHandler) -> None:
        """Answers as they come, until the handler has no more."""
        assert stream.inbox is not None
        try:
            async with (
                asyncio.timeout(stream.head.timeout),
                aclosing(handler(stream, self._heard(stream, stream.inbox))) as answers,
            ):
                async for message in answers:
                    if not await self._say(stream, message):
                        return
        except TimeoutError:
            self._fail(stream, DeadlineExceeded("The client's deadline is over."))
        except ServingError as error:
            self._fail(stream, error)
        except Exception:
            logger.exception("%s failed", stream.head.path.decode("latin-1"))
            self._fail(stream, GrpcFailure(GrpcCode.INTERNAL, "Internal server error"))
        else:
            self._hang_up(stream)
        finally:
            self._flush()

    async def _say(self, stream: Stream, message: bytes) -> bool:
        """Sends one message; True when the peer may be sent another."""
        if stream.id not in self._streams:
            return False
        if not stream.begun:
            stream.begun = True
            self._write_headers(stream.id, head.response(stream.request_id))
        stream.out = memoryview(_PREFIX.pack(0, len(message)) + message)
        self._waiting.append(stream)
        self._send_waiting()
        self._flush()
        await self._writable.wait()
        if stream.out and stream.room is not None:
            stream.room.clear()
            await stream.room.wait()
        return True

    def _hang_up(self, stream: Stream) -> None:
        if stream.id in self._streams:
            if not stream.begun:
                self._write_headers(stream.id, head.response(stream.request_id))
            self._write_headers(stream.id, head.TRAILERS_OK, end=True)
            self._finish(stream)

    # -- an answer goes out ----------------------------------------------------------------------

    def _answer(self, stream: Stream, message: bytes) -> None:
        if stream.id not in self._streams:
            return
        size = len(message) + _PREFIX.size
        if 0 < self._limits.send_bytes < len(message):
            self._fail(stream, _too_large_to_send(len(message), self._limits.send_bytes))
            return
        self._write_headers(stream.id, head.response(stream.request_id))
        if size <= self._frame_size and size <= stream.window and size <= self._send_window:
            stream.window -= size
            self._send_window -= size
            self._write(
                frames.frame_head(frames.DATA, 0, stream.id, size)
                + _PREFIX.pack(0, len(message))
                + message
            )
            self._write_headers(stream.id, head.TRAILERS_OK, end=True)
            self._finish(stream)
            return
        prefix, stream.out = _PREFIX.pack(0, len(message)), memoryview(message)
        if stream.window >= len(prefix) <= self._send_window:
            self._write(frames.frame(frames.DATA, 0, stream.id, prefix))
            stream.window -= len(prefix)
            self._send_window -= len(prefix)
        else:
            stream.out = memoryview(prefix + message)
        stream.trailers = head.TRAILERS_OK
        self._waiting.append(stream)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """As much of what waits as the windows allow; streams take turns by frame."""
        for _ in range(len(self._waiting)):
            if self._send_window <= 0:
                return
            stream = self._waiting.popleft()
            if stream.id not in self._streams:
                continue
            while stream.out and (size := self._sendable(stream)) > 0:
                self._write(frames.frame_head(frames.DATA, 0, stream.id, size))
                self._write(stream.out[:size])
                stream.out = stream.out[size:]
                stream.window -= size
                self._send_window -= size
            if stream.out:
                self._waiting.append(stream)
            elif stream.room is not None:
                stream.room.set()
            else:
                self._write_headers(stream.id, stream.trailers, end=True)
                self._finish(stream)

    def _sendable(self, stream: Stream) -> int:
        return min(len(stream.out), self._frame_size, stream.window, self._send_window)

    def _fail(self, stream: Stream, error: ServingError) -> None:
        """An answer without a message: the status says it all."""
        if stream.id not in self._streams:
            return
        code = error.code if isinstance(error, GrpcFailure) else grpc_code(error)
        begin = b"" if stream.begun else head.response(stream.request_id)
        self._write_headers(stream.id, begin + head.trailers(code, str(error)), end=True)
        self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        """The answer is complete; a client still sending is told to stop."""
        if stream.remote_open:
            self._write(frames.rst_stream(stream.id, ErrorCode.NO_ERROR))
        self._server.served += 1
        self._forget(stream)

    def _reset(self, identity: int, code: ErrorCode) -> None:
        self._write(frames.rst_stream(identity, code))
        self._drop(identity)

    def _drop(self, identity: int) -> None:
        """The call is over without an answer."""
        stream = self._streams.get(identity)
        if stream is not None:
            self._cancel(stream)
            self._forget(stream)

    def _cancel(self, stream: Stream) -> None:
        """Soon, not now: a task that never began would leave its coroutines unawaited."""
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None
        if stream.job is not None:
            stream.job.cancel()
            stream.job = None
        if stream.task is not None:
            self._loop.call_soon(stream.task.cancel)

    def _forget(self, stream: Stream) -> None:
        stream.remote_open = False
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None
        self._held -= stream.size
        stream.chunks, stream.size = [], 0
        self._streams.pop(stream.id, None)

    def _write_headers(self, identity: int, block: bytes, *, end: bool = False) -> None:
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        self._write(frames.frame(frames.HEADERS, flags, identity, block))

    def _write(self, data: bytes | memoryview) -> None:
        self._out.append(cast(bytes, data))

    def _flush(self) -> None:
        """Everything since the last flush, in one write."""
        if self._receiving or not self._out:
            return
        out, self._out = self._out, []
        if self._transport.is_closing():
            return
        if len(out) == 1:
            self._transport.write(out[0])
        elif sum(map(len, out)) < _JOINED_BYTES:
            self._transport.write(b"".join(out))
        else:
            self._transport.writelines(out)


def read_message(body: bytes, encoding: bytes, limit: int) -> memoryview:
    """The one message of a unary call."""
    if len(body) < _PREFIX.size:
        raise GrpcFailure(GrpcCode.INTERNAL, "The call carries no message.")
    compressed, length = _PREFIX.unpack_from(body)
    if length > limit:
        raise _too_large(limit)
    if len(body) != _PREFIX.size + length:
        raise GrpcFailure(
            GrpcCode.INTERNAL,
            f"The call carries {len(body) - _PREFIX.size} bytes, but its one message {length}.",
        )
    message = memoryview(body)[_PREFIX.size :]
    return memoryview(_decompress(message, encoding, limit)) if compressed else message


def _decompress(message: memoryview, encoding: bytes, limit: int) -> bytes:
    if encoding not in (b"gzip", b"deflate"):
        raise GrpcFailure(
            GrpcCode.UNIMPLEMENTED,
            f"Messages compressed with {encoding.decode('latin-1')!r} are not understood; "
            "use identity, deflate or gzip.",
        )
    unpacker = zlib.decompressobj(wbits=47)
    try:
        plain = unpacker.decompress(message, limit + 1)
    except zlib.error as error:
        raise InvalidInput("The compressed message is damaged.") from error
    if len(plain) > limit:
        raise _too_large(limit)
    return plain


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The message is larger than this server takes ({limit // MIB} MiB).")


def _too_large_to_send(size: int, limit: int) -> GrpcFailure:
    return GrpcFailure(
        GrpcCode.RESOURCE_EXHAUSTED,
        f"The answer has {size} bytes, but this server sends {limit} "
        "(--grpc_max_send_message_length).",
    )
