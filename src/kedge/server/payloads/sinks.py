"""Where records end: an HTTP receiver of CloudEvents, or a file.

Each sink belongs to one thread. What is worth another attempt is an `OSError`; `Refused` is final.
"""

from __future__ import annotations

import fcntl
import http.client
import ipaddress
import os
import ssl
from itertools import pairwise
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from kedge.server.errors import BadUsage
from kedge.server.log import logger
from kedge.server.payloads.options import PayloadOptions
from kedge.server.payloads.records import Record, headers, line

TIMEOUT_SECONDS = 10.0
_AGAIN = (408, 425, 429)


class Refused(Exception):
    """The receiver does not want this record, now or later."""


class Sink(Protocol):
    def send(self, record: Record) -> None: ...

    def close(self) -> None: ...


def open_sink(options: PayloadOptions) -> Sink:
    """Raises `BadUsage` where the first record would fail for good."""
    if options.url.startswith("file://"):
        return FileSink(options)
    return HttpSink(options)


class HttpSink:
    """One connection to a receiver, kept; through the environment's proxy, where there is one."""

    def __init__(self, options: PayloadOptions) -> None:
        self._options = options
        url = urlsplit(options.url)
        if not url.hostname:
            raise BadUsage(f"--log-url {options.url} names no host.", fix="Write http://HOST/PATH.")
        self._tls = _tls(options) if url.scheme == "https" else None
        self._host, self._port = url.hostname, url.port or (443 if self._tls else 80)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._proxy = _proxy(url.scheme, self._host)
        if self._proxy and self._tls is None:
            self._target = f"http://{url.netloc}{self._target}"
        self._host_header = url.netloc.rpartition("@")[2]
        self._connection: http.client.HTTPConnection | None = None

    def send(self, record: Record) -> None:
        record.readable()
        named = headers(record, self._options) | {"Host": self._host_header}
        kept = self._connection is not None
        try:
            try:
                status = self._post(record.body, named)
            except (OSError, http.client.HTTPException):
                self.close()
                if not kept:
                    raise
                status = self._post(record.body, named)  # It had closed a connection it kept.
        except http.client.HTTPException as error:
            self.close()
            raise OSError(f"{type(error).__name__}: {error}") from error
        if status in _AGAIN or status >= 500:
            raise OSError(f"it answered {status}")
        if status >= 300:
            raise Refused(f"it answered {status}")

    def _post(self, body: bytes | memoryview, named: dict[str, str]) -> int:
        if self._connection is None:
            self._connection = self._open()
        self._connection.request("POST", self._target, body, named)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._proxy or (self._host, self._port)
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        secure = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=self._tls)
        if self._proxy:
            secure.set_tunnel(self._host, self._port)
        return secure

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _tls(options: PayloadOptions) -> ssl.SSLContext:
    """As KServe's agent: a certificate file that is not there leaves the system's."""
    if options.ca_file and not Path(options.ca_file).is_file():
        logger.warning(
            "payload log: there is no %s; the system's certificates are used", options.ca_file
        )
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
    except ssl.SSLError as error:
        raise BadUsage(
            f"{options.ca_file} holds no certificate: {error}.",
            fix="Name a file of PEM certificates in --logger-ca-cert-file.",
        ) from error
    if options.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy(scheme: str, host: str) -> tuple[str, int] | None:
    """The proxy for `host`; none for this machine's own addresses, whatever no_proxy says."""
    named = getproxies().get(scheme)
    if not named or host == "localhost" or _is_loopback(host) or proxy_bypass(host):
        return None
    url = urlsplit(named if "://" in named else f"http://{named}")
    return (url.hostname, url.port or 80) if url.hostname else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class FileSink:
    """Events as lines of a file, set aside as `NAME.1`, `NAME.2` ... when it has grown.

    Several processes may write to it: a lock is held for each line.
    """

    def __init__(self, options: PayloadOptions) -> None:
        self._options = options
        url = urlsplit(options.url)
        if url.netloc not in ("", "localhost"):
            raise BadUsage(
                f"--log-url {options.url} names another machine.", fix="Write file:///PATH."
            )
        self._path = Path(unquote(url.path))
        self._file = -1
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise BadUsage(
                f"Payloads cannot be logged to {self._path}: {error.strerror}.",
                fix="Name a file that this user may write, in a folder of its own.",
            ) from error

    def _open(self) -> None:
        self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def send(self, record: Record) -> None:
        record.readable()
        self._lock()
        try:
            size = os.fstat(self._file).st_size
            if size and size + len(record.body) > self._options.file_bytes:
                self._set_aside()
                self._lock()
                size = 0
            try:
                for piece in line(record, self._options):
                    self._write(piece)
            except OSError:
                os.ftruncate(self._file, size)  # Half a line would spoil the next one.
                raise
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _lock(self) -> None:
        """Locks the file that has the name now: another process may have set ours aside."""
        while True:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.stat(self._path), os.fstat(self._file)):
                    return
            except FileNotFoundError:
                pass
            self._open()

    def _set_aside(self) -> None:
        names = [str(self._path)]
        names += [f"{self._path}.{number}" for number in range(1, self._options.files + 1)]
        for newer, older in reversed(list(pairwise(names))):
            if os.path.exists(newer):
                os.replace(newer, older)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
