"""The storage initializer as a process, against a real HTTP server with real faults."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from tests.integration.server_process import environment

from kedge.lib.backoff import Backoff
from kedge.storage.errors import StorageError
from kedge.storage.http import Downloader

CONTENT = bytes(range(256)) * 4096


class Site(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, with a fault per path; remembers what it was asked."""

    asked: ClassVar[list[tuple[str, str | None]]] = []
    seen: ClassVar[dict[str, int]] = {}
    etag = '"one"'

    def do_GET(self) -> None:
        first = self.path not in self.seen
        self.seen[self.path] = self.seen.get(self.path, 0) + 1
        self.asked.append((self.path, self.headers.get("Range")))
        if self.path.startswith("/private") and self.headers.get("Authorization") != "Bearer t":
            self.send_error(401)
        elif self.path.startswith("/busy") and first:
            self.send_error(503)
        elif self.path.startswith("/missing"):
            self.send_error(404)
        elif self.path.startswith("/login"):
            self._send(b"<html>", "text/html")
        elif self.path.endswith(".tar.gz"):
            self._send(archive(), "application/gzip")
        elif self.path.endswith(".gz"):
            self._send(gzip.compress(CONTENT), "application/gzip")
        else:
            self._file(first)

    def _file(self, first: bool) -> None:
        etag = '"two"' if self.path.startswith("/changing") and not first else self.etag
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", etag)
        self.end_headers()
        breaks = self.path.startswith(("/breaking", "/changing")) and first
        self.wfile.write(body[: len(body) // 2] if breaks else body)

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


def archive() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as opened:
        for name in ("model.joblib", "code/helper.py"):
            info = tarfile.TarInfo(name)
            info.size = 2
            opened.addfile(info, io.BytesIO(b"ok"))
    return raw.getvalue()


@pytest.fixture
def site() -> Iterator[str]:
    Site.asked.clear()
    Site.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def bring(source: str, folder: Path, **env: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kedge.storage", source, str(folder)],
        env=environment(**env),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def names(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def test_a_file(site: str, tmp_path: Path) -> None:
    code, out, _ = bring(f"{site}/a/model.joblib", tmp_path)
    assert code == 0
    assert "model.joblib: 1048576 bytes, complete" in out
    assert (tmp_path / "model.joblib").read_bytes() == CONTENT
    assert names(tmp_path) == ["model.joblib"]
    assert bring(f"{site}/a/model.joblib", tmp_path)[0] == 0
    assert len(Site.asked) == 1


def test_archives_and_gzip_are_unpacked(site: str, tmp_path: Path) -> None:
    assert bring(f"{site}/model.tar.gz", tmp_path / "tar")[0] == 0
    assert names(tmp_path / "tar") == ["code/helper.py", "model.joblib"]
    assert bring(f"{site}/model.bst.gz", tmp_path / "gz")[0] == 0
    assert (tmp_path / "gz" / "model.bst").read_bytes() == CONTENT


def test_headers_from_the_environment(site: str, tmp_path: Path) -> None:
    code, _, err = bring(f"{site}/private/model.bst", tmp_path)
    assert code == 1
    assert "HTTP authentication failed" in err
    headers = json.dumps({"Authorization": "Bearer t"})
    env = {"127.0.0.1-headers": headers}
    assert bring(f"{site}/private/model.bst", tmp_path, **env)[0] == 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing/model.bst", "StorageError: HTTP resource not found at"),
        ("/login/model.bst", "answered a web page, not a file"),
    ],
)
def test_refusals(site: str, tmp_path: Path, path: str, message: str) -> None:
    code, _, err = bring(f"{site}{path}", tmp_path)
    assert code == 1
    assert message in err
    assert " Fix: " in err
    assert names(tmp_path) == []


class Fetching:
    """A downloader whose pauses take no time."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pauses: list[float] = []
        self.downloader = Downloader(
            {}, self.lines.append, sleep=self.pauses.append, backoff=Backoff(initial=1.0)
        )


def test_a_broken_download_goes_on_where_it_broke(site: str, tmp_path: Path) -> None:
    fetching = Fetching()
    fetching.downloader.fetch(f"{site}/breaking/model.bst", tmp_path)
    assert (tmp_path / "model.bst").read_bytes() == CONTENT
    assert [asked for _, asked in Site.asked] == [None, f"bytes={len(CONTENT) // 2}-"]
    assert fetching.pauses == [1.0]
    assert "broke off" in fetching.lines[0] or "ended at" in fetching.lines[0]


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: str, tmp_path: Path) -> None:
    Fetching().downloader.fetch(f"{site}/changing/model.bst", tmp_path)
    assert (tmp_path / "model.bst").read_bytes() == CONTENT
    assert names(tmp_path) == ["model.bst"]


def test_a_busy_host_is_asked_again(site: str, tmp_path: Path) -> None:
    fetching = Fetching()
    fetching.downloader.fetch(f"{site}/busy/model.bst", tmp_path)
    assert fetching.pauses == [1.0]
    assert "status code 503" in fetching.lines[0]


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    fetching = Fetching()
    with pytest.raises(StorageError, match=r"Failed to connect to 127.0.0.1:1: .*Gave up after 5"):
        fetching.downloader.fetch("http://127.0.0.1:1/model.bst", tmp_path)
    assert fetching.pauses == [1.0, 2.0, 4.0, 8.0]


def test_an_unfinished_download_is_not_a_model(site: str, tmp_path: Path) -> None:
    """What is there after a kill is hidden, and the next run completes it."""

    class Killed(Exception):
        pass

    def die(seconds: float) -> None:
        raise Killed

    downloader = Downloader({}, print, sleep=die)
    with pytest.raises(Killed):
        downloader.fetch(f"{site}/breaking/model.bst", tmp_path)
    assert all(name.startswith(".kedge-") for name in names(tmp_path))
    assert bring(f"{site}/breaking/model.bst", tmp_path)[0] == 0
    assert names(tmp_path) == ["model.bst"]
    assert (tmp_path / "model.bst").read_bytes() == CONTENT


def test_a_full_disk(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("kedge.storage.http.shutil.disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match=r"is full: the model needs 1 MiB and 0 MiB are free"):
        Fetching().downloader.fetch(f"{site}/a/model.bst", tmp_path)
