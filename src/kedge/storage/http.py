"""Downloading one file over HTTP(S): resumed after a break, complete or not there at all.

A download grows in a hidden file beside its place. When the connection breaks, the next try asks
for the rest, on the condition that the file is still the same; otherwise it begins anew.
"""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from kedge.lib.backoff import Backoff
from kedge.storage.archives import TAR_ENDINGS
from kedge.storage.errors import MIB, Passing, StorageError, disk_full

TRIES = 5
_TIMEOUT_SECONDS = 30.0
_CHUNK = 1 * MIB
_REPORT_SECONDS = 5.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Downloader:
    """Fetches files as the environment says: headers per host, CA bundle, proxies."""

    def __init__(
        self,
        env: Mapping[str, str],
        report: Callable[[str], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        backoff: Backoff = Backoff(initial=0.5, limit=15.0),  # noqa: B008 - frozen
    ) -> None:
        self._env = env
        self._report = report
        self._sleep = sleep
        self._backoff = backoff

    def fetch(self, uri: str, destination: Path) -> Path:
        """Downloads `uri` into the folder `destination`."""
        name = unquote(urlsplit(uri).path).rpartition("/")[2]
        if not name or name in (".", ".."):
            raise StorageError(
                f"No filename contained in URI {uri}.",
                fix="Point the storageUri at a file or an archive, not at a folder.",
            )
        target = destination / name
        if target.exists():
            self._report(f"{name}: already there")
            return target
        partial = destination / f".kedge-{name}.part"
        self._with_retries(uri, partial)
        return self._finish(partial, target)

    def _with_retries(self, uri: str, partial: Path) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                self._transfer(uri, partial)
                return
            except Passing as error:
                if attempt == TRIES:
                    raise StorageError(
                        f"{error.message} Gave up after {TRIES} tries.", fix=error.fix
                    ) from error
                pause = self._backoff.delay(attempt)
                self._report(f"{error.message} Trying again in {pause:g} s.")
                self._sleep(pause)

    def _transfer(self, uri: str, partial: Path) -> None:
        """One try; what it brings stays for the next."""
        state = partial.with_suffix(".json")
        have, validator = _progress(partial, state)
        headers = dict(self._headers(uri))
        if have and validator:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        try:
            with self._open(uri, headers) as answer:
                resumed = answer.status == 206
                have = have if resumed else 0
                total = _total(answer, have)
                if total is not None and total - have > shutil.disk_usage(partial.parent).free:
                    raise disk_full(partial.parent, total - have)
                found = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
                state.write_text("" if found.startswith("W/") else found)
                with partial.open("ab" if resumed else "wb") as file:
                    self._copy(answer, file, uri, have, total)
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise Passing(
                f"The download of {uri} broke off: {error or type(error).__name__}.",
                fix="Check the network between this pod and the host.",
            ) from error

    def _copy(
        self,
        answer: http.client.HTTPResponse,
        file: IO[bytes],
        uri: str,
        have: int,
        total: int | None,
    ) -> None:
        started = reported = time.monotonic()
        begun = have
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            have += len(chunk)
            now = time.monotonic()
            if now - reported >= _REPORT_SECONDS:
                reported = now
                self._report(_progress_line(uri, have, total, (have - begun) / (now - started)))
        if total is not None and have < total:
            raise Passing(
                f"The download of {uri} ended at {have} of {total} bytes.",
                fix="Check the network between this pod and the host.",
            )

    def _open(self, uri: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        request = urllib.request.Request(uri, headers=dict(headers))
        handlers = [urllib.request.HTTPSHandler(context=self._tls())]
        try:
            answer = urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # The part is longer than the file has become.
                raise Passing(f"{uri} changed while it was fetched.") from error
            raise _refused(uri, error.code) from error
        except urllib.error.URLError as error:
            raise _unreachable(uri, error.reason) from error
        kind = answer.headers.get_content_type()
        if kind == "text/html" and not uri.endswith((".html", ".htm")):
            answer.close()
            raise StorageError(
                f"{uri} answered a web page, not a file.",
                fix="Use the link of the file itself; a login page may need credentials.",
            )
        return answer  # type: ignore[no-any-return]  # urllib is typed loosely

    def _tls(self) -> ssl.SSLContext:
        bundle = self._env.get("REQUESTS_CA_BUNDLE") or self._env.get("CURL_CA_BUNDLE")
        return ssl.create_default_context(cafile=bundle or None)

    def _headers(self, uri: str) -> Mapping[str, str]:
        """The headers that the environment gives for the host, as KServe words it."""
        host = urlsplit(uri).hostname or ""
        text = self._env.get(f"{host}-headers", "")
        if not text:
            return {}
        try:
            headers = json.loads(text)
        except ValueError as error:
            raise StorageError(
                f"The environment variable {host}-headers is not JSON.",
                fix='Write it as {"Authorization": "Bearer ..."}.',
            ) from error
        return {str(name): str(value) for name, value in headers.items()}

    def _finish(self, partial: Path, target: Path) -> Path:
        """The complete file gets its name; one that is only compressed is unpacked first."""
        partial.with_suffix(".json").unlink(missing_ok=True)
        if target.name.endswith(".gz") and not target.name.lower().endswith(TAR_ENDINGS):
            plain = target.with_suffix("")
            growing = partial.with_suffix(".plain")
            try:
                with gzip.open(partial) as packed, growing.open("wb") as file:
                    shutil.copyfileobj(packed, file, _CHUNK)
            except (gzip.BadGzipFile, EOFError) as error:
                raise StorageError(
                    f"{target.name} is not valid gzip: {error}.",
                    fix="Compress and upload it again.",
                ) from error
            growing.replace(plain)
            partial.unlink()
            target = plain
        else:
            partial.replace(target)
        self._report(f"{target.name}: {target.stat().st_size} bytes, complete")
        return target


def _progress(partial: Path, state: Path) -> tuple[int, str]:
    """How much an earlier try brought, and what proves that the file is still the same."""
    if not partial.exists() or not state.exists():
        return 0, ""
    return partial.stat().st_size, state.read_text()


def _total(answer: http.client.HTTPResponse, have: int) -> int | None:
    length = answer.headers.get("Content-Length")
    if length is None or not length.isdigit() or answer.headers.get("Content-Encoding"):
        return None
    return have + int(length)


def _progress_line(uri: str, have: int, total: int | None, pace: float) -> str:
    of = f" of {total / MIB:.0f} MiB ({100 * have // total} %)" if total else " MiB"
    return f"{uri}: {have / MIB:.0f}{of}, {pace / MIB:.1f} MiB/s"


def _refused(uri: str, status: int) -> StorageError:
    if status == 401:
        host = urlsplit(uri).hostname
        return StorageError(
            f"HTTP authentication failed for '{uri}'.",
            fix=f'Give the variable "{host}-headers" the credentials, as {{"Authorization": ...}}.',
        )
    if status == 403:
        return StorageError(
            f"HTTP access denied to '{uri}'.", fix="Check the permissions of the credentials."
        )
    if status in (404, 410):
        return StorageError(
            f"HTTP resource not found at '{uri}'.",
            fix="Correct the storageUri, or upload the file.",
        )
    kind = Passing if status in _PASSING else StorageError
    return kind(
        f"HTTP request to '{uri}' failed with status code {status}.",
        fix="Ask whoever runs that host.",
    )


def _unreachable(uri: str, reason: object) -> StorageError:
    host = urlsplit(uri).netloc
    if isinstance(reason, ssl.SSLCertVerificationError):
        return StorageError(
            f"The certificate of {host} is not trusted: {reason.verify_message}.",
            fix="Name the CA's file in REQUESTS_CA_BUNDLE.",
        )
    return Passing(
        f"Failed to connect to {host}: {reason}.",
        fix="Check the host name, and the network between this pod and it.",
    )
