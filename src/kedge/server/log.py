"""Log lines at the price of an append.

Standard logging costs more than a small prediction. A request's line is appended as text here and
written with all others by one timer; what the server itself has to say goes through `logging`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("kedge")

FLUSH_SECONDS = 0.25
_FLUSH_LINES = 2000


class Timer(Protocol):
    """The part of an event loop that this needs."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> object: ...


class RequestLog:
    """One line per request, in KServe's form."""

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._write = write or _write_stderr
        self._lines: list[str] = []
        self._timer: Timer | None = None
        self._second = 0
        self._stamp = ""
        self._pid = os.getpid()

    def start(self, timer: Timer) -> None:
        self._timer = timer

    def latency(
        self, request_id: str, preprocess: float, explain: float, predict: float, postprocess: float
    ) -> None:
        """Durations are in seconds; the line has milliseconds."""
        now = time.time()
        if (second := int(now)) != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        lines = self._lines
        if not lines and self._timer is not None:
            self._timer.call_later(FLUSH_SECONDS, self.flush)
        lines.append(
            f"{self._stamp}.{int((now - second) * 1000):03d} {self._pid} kedge.trace requestId: "
            f"{request_id or 'N.A.'}, preprocess_ms: {preprocess * 1000:.6f}, explain_ms: "
            f"{explain * 1000:.6f}, predict_ms: {predict * 1000:.6f}, postprocess_ms: "
            f"{postprocess * 1000:.6f}\n"
        )
        if len(lines) >= _FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            self._write(text.encode("utf-8", "replace"))


def _write_stderr(text: bytes) -> None:
    try:
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()
    except (OSError, ValueError):
        return  # A full disk or a closed pipe must not end a prediction.


def configure(level: str) -> None:
    """The server's own lines, to stderr; a configuration that is already there is left alone."""
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s.%(msecs)03d %(process)d %(name)s %(levelname)s %(message)s",
            datefmt="%Y-%m-%d %H:%M:%S",
        )
    )
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
