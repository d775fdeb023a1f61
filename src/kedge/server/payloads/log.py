"""The queue of records, and the threads that empty it.

`offer` is called on the event loop and never waits. A record whose receiver fails is sent again,
later each time; meanwhile the queue fills, and what does not fit is dropped.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from dataclasses import replace

from kedge.lib.backoff import Backoff
from kedge.server.log import logger
from kedge.server.payloads.options import PayloadOptions
from kedge.server.payloads.records import Record
from kedge.server.payloads.sinks import Refused, Sink, open_sink

_BACKOFF = Backoff(initial=0.2, limit=10.0)
_TELL_SECONDS = 10.0


class PayloadLog:
    """See the module.

    Attributes:
        outcomes: records by what became of them: sent, dropped (no room), failed (given up).
        waiting: records not yet sent.
    """

    def __init__(
        self, options: PayloadOptions, outcomes: Counter[str], backoff: Backoff = _BACKOFF
    ) -> None:
        self.options = options
        self.outcomes = outcomes
        self.waiting = 0
        self._backoff = backoff
        self._bytes = 0
        self._records: deque[Record] = deque()
        self._change = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._most_threads = 1 if options.url.startswith("file:") else options.senders
        self._end: float | None = None
        self._told: dict[str, float] = {}

    def named(self, source: str) -> None:
        """Where events come from, unless the options say."""
        self.options = replace(self.options, source=self.options.source or source)

    def offer(self, record: Record) -> None:
        """Takes a record, or drops it when too many wait."""
        size, options = len(record.body), self.options
        more = False
        with self._change:
            fits = self.waiting < options.records and self._bytes + size <= options.bytes
            if fits:
                self.waiting += 1
                self._bytes += size
                self._records.append(record)
                more = len(self._records) > len(self._threads) < self._most_threads
                self._change.notify()
            else:
                self.outcomes["dropped"] += 1
        if not fits:
            self._tell(
                "dropped",
                "%d records were dropped so far: %d wait to be sent to %s",
                self.outcomes["dropped"],
                self.waiting,
                options.url,
            )
        elif more or not self._threads:
            self._start()

    def _start(self) -> None:
        name = f"payloads-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    async def close(self) -> None:
        """Sends what waits, for as long as the options allow."""
        with self._change:
            self._end = time.monotonic() + self.options.drain_seconds
            self._change.notify_all()
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() > self._end:
                break
            await asyncio.sleep(0.01)
        if self.waiting:
            self.outcomes["failed"] += self.waiting
            logger.error(
                "payload log: %d records were not sent to %s before the end",
                self.waiting,
                self.options.url,
            )

    # -- in the threads --------------------------------------------------------------------------

    def _work(self) -> None:
        sink = open_sink(self.options)
        while (record := self._next()) is not None:
            size = len(record.body)
            outcome = self._deliver(sink, record)
            with self._change:
                self.outcomes[outcome] += 1
                self.waiting -= 1
                self._bytes -= size
        sink.close()

    def _next(self) -> Record | None:
        with self._change:
            while not self._records:
                if self._end is not None:
                    return None
                self._change.wait()
            return self._records.popleft()

    def _deliver(self, sink: Sink, record: Record) -> str:
        """What became of it."""
        while True:
            try:
                sink.send(record)
                return "sent"
            except Refused as error:
                reason = str(error)
                break
            except OSError as error:
                record.attempts += 1
                reason = str(error) or type(error).__name__
                if record.attempts >= self.options.attempts or not self._wait(record.attempts):
                    break
            except Exception as error:
                logger.exception("payload log: a record cannot be sent")
                reason = type(error).__name__
                break
        self._tell("failed", "a record was given up: %s: %s", self.options.url, reason)
        return "failed"

    def _wait(self, attempts: int) -> bool:
        """Until the next attempt; False when the server ends before it."""
        until = time.monotonic() + self._backoff.delay(attempts)
        with self._change:
            while (now := time.monotonic()) < until:
                if self._end is not None and self._end < until:
                    return False
                self._change.wait(until - now)
        return True

    def _tell(self, what: str, text: str, *arguments: object) -> None:
        """Now and then: a receiver that is down must not fill the log."""
        now = time.monotonic()
        if now - self._told.get(what, -_TELL_SECONDS) >= _TELL_SECONDS:
            self._told[what] = now
            logger.warning(f"payload log: {text}", *arguments)
