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
from datetime import UTC, datetime
from typing import Literal, Protocol

import orjson

from kedge.server.request_id import TracedId

logger = logging.getLogger("kedge")

LogForm = Literal["text", "json"]

FLUSH_SECONDS = 0.25
_FLUSH_LINES = 256


class Timer(Protocol):
    """The part of an event loop that this needs."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> object: ...


class RequestLog:
    """One line per request: in KServe's form, or a JSON object. A `TracedId` names its trace."""

    def __init__(
        self, write: Callable[[bytes], object] | None = None, form: LogForm = "text"
    ) -> None:
        self._write = write or _write_stderr
        self._line = self._json_line if form == "json" else self._text_line
        self._lines: list[str] = []
        self._timer: Timer | None = None
        self._second = 0
        self._stamp = ""
        self._predict, self._predicted = -1.0, ""
        self._pid = os.getpid()

    def start(self, timer: Timer) -> None:
        self._timer = timer
        self._pid = os.getpid()

    def latency(
        self, request_id: str, preprocess: float, explain: float, predict: float, postprocess: float
    ) -> None:
        """Durations are in seconds; the line has milliseconds."""
        lines = self._lines
        if not lines and self._timer is not None:
            self._timer.call_later(FLUSH_SECONDS, self.flush)
        lines.append(
            self._line(
                request_id, preprocess * 1000, explain * 1000, predict * 1000, postprocess * 1000
            )
        )
        if len(lines) >= _FLUSH_LINES:
            self.flush()

    def _text_line(
        self, request_id: str, preprocess: float, explain: float, predict: float, postprocess: float
    ) -> str:
        now = time.time()
        if (second := int(now)) != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        explained = f"{explain:.6f}" if explain else "0.000000"
        if predict != self._predict:  # Requests of one batch took the same.
            self._predict, self._predicted = predict, f"{predict:.6f}"
        trace = f", traceId: {request_id.trace_id}" if isinstance(request_id, TracedId) else ""
        return (
            f"{self._stamp}.{int((now - second) * 1000):03d} {self._pid} kedge.trace requestId: "
            f"{request_id or 'N.A.'}, preprocess_ms: {preprocess:.6f}, explain_ms: {explained}, "
            f"predict_ms: {self._predicted}, postprocess_ms: {postprocess:.6f}{trace}\n"
        )

    def _json_line(
        self, request_id: str, preprocess: float, explain: float, predict: float, postprocess: float
    ) -> str:
        line = {
            "time": _moment(time.time()),
            "level": "INFO",
            "logger": "kedge.trace",
            "pid": self._pid,
            **_names(request_id),
            "preprocess_ms": round(preprocess, 6),
            "explain_ms": round(explain, 6),
            "predict_ms": round(predict, 6),
            "postprocess_ms": round(postprocess, 6),
        }
        return orjson.dumps(line).decode() + "\n"

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


def configure(level: str, form: LogForm = "text") -> None:
    """The server's own lines, to stderr; a configuration that is already there is left alone."""
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler()
    text = logging.Formatter(
        "%(asctime)s.%(msecs)03d %(process)d %(name)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


class JsonFormatter(logging.Formatter):
    """One JSON object per line; what a record was given as `extra={"request": id}` names it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment(record.created),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            **_names(getattr(record, "request", "")),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def _names(request_id: str) -> dict[str, str]:
    if not request_id:
        return {}
    if isinstance(request_id, TracedId):
        return {
            "request_id": str(request_id),
            "trace_id": request_id.trace_id,
            "span_id": request_id.span_id,
        }
    return {"request_id": request_id}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
