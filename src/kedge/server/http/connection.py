"""One HTTP connection: predictions are answered here, everything else goes on to ASGI.

uvicorn's protocol builds an ASGI scope, a task and an event per request; for a prediction of
20 µs that is most of the cost. This subclass answers a `Target` itself, and hands every other
request to its parent. Pipelined requests share the parent's queue, so that answers keep their
order whoever gives them. Limits on headers, bodies and silence are kept here, for both.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import TimerHandle
from collections.abc import Coroutine
from typing import Any, cast

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from kedge.lib.addresses import plain
from kedge.protocol.compression import too_large
from kedge.server.batching import Job
from kedge.server.http.heads import Fields, Head, Headers, Heads, Target
from kedge.server.http.inference import Inference
from kedge.server.http.packing import packed, wants_packing
from kedge.server.http.reply import Reply, error_reply, named
from kedge.server.limits import Limits
from kedge.server.request_id import NAME, chosen
from kedge.server.side import SIDE_BYTES

_LINGER_SECONDS = 2.0
_PROBE_SECONDS = 0.05
_TCP_CLOSE = 7


class Shared:
    """What all connections of a server have in common.

    Attributes:
        date: the Date header's line, set anew every second by `tick`.
        now: a coarse clock for idle connections, set with it.
        draining: answers ask clients to connect anew.
    """

    def __init__(self, config: Config, inference: Inference, limits: Limits) -> None:
        self.config = config
        self.state = ServerState()
        self.inference = inference
        self.limits = limits
        self.heads = Heads()
        self.date = b""
        self.now = 0.0
        self.draining = False

    def tick(self, now: float, date: bytes) -> None:
        """Once a second: the date, and an end to connections that idled too long."""
        self.now = now
        self.date = b"date: %s\r\n" % date
        self.state.default_headers = [(b"date", date)]
        for connection in list(self.state.connections):
            cast(Connection, connection).close_if_idle_since(now - self.limits.keep_alive_seconds)

    @property
    def busy(self) -> bool:
        """A request is being received or answered."""
        return any(cast(Connection, one).busy for one in self.state.connections)

    def close_idle(self) -> None:
        for connection in list(self.state.connections):
            connection.shutdown()


class _NoEvent:
    def set(self) -> None:
        return


_NO_EVENT = _NoEvent()


class FastCycle:
    """A prediction between its headers and its answer: what the parent calls a cycle.

    Attributes:
        under_way: what will give the answer, when that is not at once.
    """

    __slots__ = (
        "chunks",
        "complete",
        "current",
        "disconnected",
        "headers",
        "keep_alive",
        "limit",
        "message_event",
        "response_complete",
        "size",
        "target",
        "under_way",
    )

    def __init__(self, target: Target, headers: Headers, limit: int, keep_alive: bool) -> None:
        self.target = target
        self.headers = headers
        self.limit = limit
        self.keep_alive = keep_alive
        self.chunks: list[bytes] = []
        self.size = 0
        self.current = False
        self.complete = False
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NO_EVENT
        self.under_way: Job | asyncio.Task[None] | None = None

    def body(self) -> bytes | list[bytes]:
        """What has come, in pieces where it is large; it is not kept."""
        chunks, self.chunks = self.chunks, []
        if len(chunks) == 1:
            return chunks[0]
        return chunks if self.size > SIDE_BYTES else b"".join(chunks)


class Connection(HttpToolsProtocol):
    """See the module."""

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(shared.config, shared.state, {}, loop)
        self._shared = shared
        self._inference = shared.inference
        self._limits = shared.limits
        self._fast: FastCycle | None = None
        self._answering: RequestResponseCycle | FastCycle | None = None
        self._refused = False
        self._pumping = False
        self._in_head = False
        self._in_body = False
        self._first = b""
        self._head_bytes = 0
        self._body_bytes = 0
        self._fed = 0
        self._timer: TimerHandle | None = None
        self._hands_back = False
        self._last = shared.now

    # -- life ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.client = plain(self.client[0]), self.client[1]

    @property
    def busy(self) -> bool:
        answering = self.cycle is not None and not self.cycle.response_complete
        return answering or self._in_head or self._in_body

    def close_if_idle_since(self, moment: float) -> None:
        if self._last < moment and not self.busy:
            self.transport.close()

    def hand_back(self) -> None:
        """The next answer asks the client to connect anew."""
        self._hands_back = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if isinstance(self._answering, FastCycle):
            self._abandon(self._answering)
        super().connection_lost(exc)

    def _abandon(self, cycle: FastCycle) -> None:
        """Nobody will read the answer."""
        under_way, cycle.under_way = cycle.under_way, None
        if isinstance(under_way, Job):
            under_way.cancel()
        elif under_way is not None:
            # Soon, not now: a task that never began would leave its coroutine unawaited.
            self.loop.call_soon(under_way.cancel)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's own signature
        """A client that has said all it will may still read what it asked for.

        But one that stops a stream of answers does it by closing, and looks the same.
        """
        if (self._in_head or self._in_body) and not self._refused:
            self._refuse(400, "The connection ended within the request.")
            return True
        if self._refused or self.cycle is None or self.cycle.response_complete:
            return None
        if getattr(self.cycle, "response_started", False):
            return None
        self.cycle.keep_alive = False
        if self.parser.get_http_version() != "1.0" and not self._pumping:
            self._probe()
        return True

    def _probe(self) -> None:
        """Whether the client is gone, or has only said all it will: both look the same.

        A client reads over a 100, which it may be told at any time; the system of one that is gone
        answers it by a reset.
        """
        if self._answering is None or not getattr(self._answering, "response_started", False):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.loop.call_later(_PROBE_SECONDS, self._look, _PROBE_SECONDS)

    def _look(self, waited: float) -> None:
        if self.transport.is_closing() or self.cycle is None or self.cycle.response_complete:
            return
        connected = self.transport.get_extra_info("socket")
        if connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
            self.transport.abort()
        else:
            self.loop.call_later(waited * 2, self._look, waited * 2)

    def _unset_keepalive_if_required(self) -> None:
        """The parent's timer per request is replaced by one sweep for all (`Shared.tick`)."""

    # -- receiving -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if not self._in_head and not self._in_body:
            cycle = self.cycle
            if cycle is None or cycle.response_complete:
                end = data.find(b"\r\n\r\n")
                head = self._shared.heads.find(data[:end])
                if head is None:
                    self._first = data[:end] if end > 0 else b""
                elif self._receive_whole(head, data, end + 4):
                    return
        self._fed = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # No upgrade is offered: the request itself has been answered as it stands.
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(400, f"Invalid HTTP request received: {_cause(error)}")
            return
        if self._in_head or self._in_body:
            self._receiving(len(data))
        elif self._timer is not None:
            self._disarm()

    def _receive_whole(self, head: Head, data: bytes, start: int) -> bool:
        """Answers a request that has come in one piece with a head that is known.

        The parser stands between two messages and need not hear of it.
        """
        target = self._inference.target(head.url)
        if head.length != len(data) - start or head.length > head.limit or target != head.target:
            return False
        cycle = FastCycle(target, head.headers, head.limit, True)
        cycle.current = cycle.complete = True
        self.cycle = cast(RequestResponseCycle, cycle)
        self._answering = cycle
        self._answer(cycle, data[start:])
        return True

    def _receiving(self, size: int) -> None:
        """A request is under way; it may take neither too much room nor too much time."""
        if self._in_head:
            self._head_bytes += size
            if self._head_bytes > self._limits.head_bytes:
                self._refuse_head()
            elif self._timer is None:
                self._arm(self._limits.head_seconds)
        else:
            self._disarm()
            self._arm(self._limits.body_seconds)

    def _refuse_head(self) -> None:
        limit = self._limits.head_bytes // 1024
        self._refuse(431, f"The request's headers are larger than {limit} KiB.")

    def _is_head_too_large(self) -> bool:
        """Counted only where so much has come that it could be."""
        limit = self._limits.head_bytes
        if self._head_bytes + self._fed <= limit:
            return False
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > limit

    def _arm(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._refuse(408, "The request did not arrive in time.")

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _refuse(self, status: int, message: str) -> None:
        self._refuse_with(Reply(status, [orjson.dumps({"error": message})]))

    def _refuse_with(self, reply: Reply) -> None:
        """Answers without having read the request, and hangs up when the client has read that.

        Where earlier requests still wait for their answers, the one being answered is the last:
        a refusal would be taken for its answer.
        """
        self._refused = True
        self._disarm()
        refused = self.cycle if self._in_body else None
        if refused is not None:
            refused.disconnected = True
            refused.message_event.set()
        answering = self._answering
        if answering is not None and answering is not refused and not answering.response_complete:
            answering.keep_alive = False
            self.pipeline.clear()
            return
        named(reply, chosen(next((value for name, value in self.headers if name == NAME), b"")))
        self.transport.write(self._encode(reply, keep_alive=False) + b"".join(reply.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    # -- the parser's callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = Headers()
        self.expect_100_continue = False
        self._fast = None
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._in_body = True
        if self._timer is not None:
            self._disarm()
        if self._refused:
            return
        if self._is_head_too_large():
            self._refuse_head()
            return
        parser = self.parser
        target = self._inference.target(self.url) if parser.get_method() == b"POST" else None
        if target is None:
            self._begin_asgi()
            return
        limit = self._inference.body_limit(target, self.headers)
        keep_alive = (
            parser.should_keep_alive()
            and parser.get_http_version() != "1.0"
            and not self._hands_back
        )
        fast = FastCycle(target, cast(Headers, self.headers), limit, keep_alive)
        previous, self.cycle = self.cycle, cast(RequestResponseCycle, fast)
        self._fast = fast
        if previous is None or previous.response_complete:
            fast.current = True
            self._answering = fast
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        declared = _declared_length(self.headers)
        first, self._first = self._first, b""
        if first and keep_alive and declared is not None:
            head = Head(self.url, target, cast(Headers, self.headers), declared, limit)
            self._shared.heads.learn(first, head)
        if declared is not None and declared > limit:
            self._refuse_with(error_reply(too_large(limit, declared)))
        elif self.expect_100_continue and fast.current:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin_asgi(self) -> None:
        """Hands the request to the parent, which starts its own bookkeeping late."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = expect
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        fast = self._fast
        if fast is None:
            self._body_bytes += len(body)
            if self._body_bytes > self._limits.json_bytes:
                self._refuse_with(error_reply(too_large(self._limits.json_bytes, None)))
            else:
                super().on_body(body)
            return
        fast.chunks.append(body)
        fast.size += len(body)
        if fast.size > fast.limit:
            fast.chunks.clear()
            self._refuse_with(error_reply(too_large(fast.limit, None)))

    def on_message_complete(self) -> None:
        self._in_body = False
        fast = self._fast
        if self._refused:
            return
        if fast is None:
            super().on_message_complete()
            return
        fast.complete = True
        if fast.current:
            self._answer(fast, fast.body())

    # -- answering -------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle | FastCycle, app: Any) -> None:
        self._answering = cycle
        if isinstance(cycle, FastCycle):
            cycle.current = True
            if cycle.complete:
                self._answer(cycle, cycle.body())
        else:
            if self._shared.draining or self._hands_back:
                cycle.keep_alive = False
            super()._start_asgi_task(cycle, app)

    def _answer(self, cycle: FastCycle, body: bytes | list[bytes]) -> None:
        outcome = self._inference.answer(cycle.target, cycle.headers, body)
        if isinstance(outcome, Reply):
            self._send(cycle, outcome)
        elif isinstance(outcome, Job):
            cycle.under_way = outcome
            outcome.call = cycle
            outcome.deliver = self._deliver
        else:
            self._await(cycle, outcome)

    def _await(self, cycle: FastCycle, outcome: Coroutine[Any, Any, Reply]) -> None:
        task = self.loop.create_task(self._answer_later(cycle, outcome))
        cycle.under_way = task
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _deliver(self, job: Job) -> None:
        assert job.encode is not None
        cycle: FastCycle = job.call
        cycle.under_way = None
        reply = job.encode(job)
        if isinstance(reply, Reply):
            self._send(cycle, reply)
        else:
            self._await(cycle, reply)

    async def _answer_later(self, cycle: FastCycle, outcome: Coroutine[Any, Any, Reply]) -> None:
        reply = await outcome
        cycle.under_way = None
        if not cycle.disconnected:
            self._send(cycle, reply)

    def _send(self, cycle: FastCycle, reply: Reply) -> None:
        if wants_packing(cycle.headers, reply):
            self._await(cycle, packed(reply))
            return
        keep_alive = cycle.keep_alive and not self._shared.draining
        body = reply.body
        head = self._encode(reply, keep_alive)
        if len(body) == 1 and len(body[0]) < 65536:
            self.transport.write(head + body[0])
        else:
            self.transport.writelines([head, *body])
        cycle.response_complete = True
        if keep_alive:
            self.on_response_complete()
        else:
            self.transport.close()

    def _encode(self, reply: Reply, keep_alive: bool) -> bytes:
        body = reply.body
        size = len(body[0]) if len(body) == 1 else sum(map(len, body))
        return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
            STATUS_LINE[reply.status],
            self._shared.date,
            reply.content_type,
            size,
            reply.headers,
            b"" if keep_alive else b"connection: close\r\n",
        )

    def on_response_complete(self) -> None:
        """An answer is out, from here or from ASGI: whoever waits in the pipeline is next."""
        self.server_state.total_requests += 1
        self._last = self._shared.now
        if self.transport.is_closing() or self._pumping:
            return
        if not self.pipeline:
            if self.flow.read_paused and not self.flow.write_paused:
                self.flow.resume_reading()
            return
        self._pumping = True
        try:
            while self.pipeline and not self._refused:
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
                if not cycle.response_complete:
                    return
        finally:
            self._pumping = False
        if not self.flow.write_paused:
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """A client that does not read its answers is not read from, either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()


def _declared_length(headers: Fields) -> int | None:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None


def _cause(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
