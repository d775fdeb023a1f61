"""Kubeconfigs: what is read from them, and what is said about broken ones."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kedge.cluster.kubernetes.connection import (
    InvalidConnection,
    connect_by_kubeconfig,
    connect_from_pod,
)
from kedge.lib.certificates import make_authority
from kedge.lib.errors import KedgeError


def write(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    file = folder / "config"
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
            {"name": "two", "context": {"cluster": "nowhere"}},
        ],
        "current-context": "one",
    }
    file.write_text(yaml.safe_dump(config))
    return file


def test_reads_server_and_token(tmp_path: Path) -> None:
    file = write(tmp_path, {"server": "http://127.0.0.1:1/"}, {"token": "t"})
    connection = connect_by_kubeconfig(file)
    assert connection.server == "http://127.0.0.1:1"
    assert connection.tls is None
    assert connection.token() == "t"


def test_reads_a_token_file_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    file = write(tmp_path, {"server": "http://h"}, {"tokenFile": "token"})
    assert connect_by_kubeconfig(file).token() == "secret"


def plugin(folder: Path, script: str) -> Path:
    program = folder / "login"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    user = {"exec": {"command": "./login", "args": ["a"], "env": [{"name": "X", "value": "1"}]}}
    return write(folder, {"server": "http://h"}, user)


def test_a_program_gives_tokens_until_they_end(tmp_path: Path) -> None:
    script = """
    echo x >> "$(dirname "$0")/runs"
    case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) ;; *) exit 1 ;; esac
    [ -f "$(dirname "$0")/short" ] && end=2020-01-01T00:00:00Z || end=2999-01-01T00:00:00Z
    echo "{\\"status\\": {\\"token\\": \\"t$1$X\\", \\"expirationTimestamp\\": \\"$end\\"}}"
    """
    connection = connect_by_kubeconfig(plugin(tmp_path, script))
    runs = tmp_path / "runs"
    assert not runs.exists()
    assert [connection.token() for _ in range(2)] == ["ta1", "ta1"]
    assert len(runs.read_text().split()) == 1
    (tmp_path / "short").touch()
    ending = connect_by_kubeconfig(plugin(tmp_path, script))
    assert [ending.token() for _ in range(2)] == ["ta1", "ta1"]
    assert len(runs.read_text().split()) == 3


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo please log in >&2; exit 3", "exit status 3: please log in"),
        ("echo nothing", "no ExecCredential"),
        ("echo '{\"status\": {}}'", "no ExecCredential"),
    ],
)
def test_a_program_that_gives_none_is_named(tmp_path: Path, script: str, message: str) -> None:
    connection = connect_by_kubeconfig(plugin(tmp_path, script))
    with pytest.raises(KedgeError, match=message) as caught:
        connection.token()
    assert caught.value.fix


def test_verifies_https_unless_told_not_to(tmp_path: Path) -> None:
    tls = connect_by_kubeconfig(write(tmp_path, {"server": "https://h"}, {})).tls
    assert tls is not None
    assert tls.check_hostname
    careless = {"server": "https://h", "insecure-skip-tls-verify": True}
    tls = connect_by_kubeconfig(write(tmp_path, careless, {})).tls
    assert tls is not None
    assert not tls.check_hostname


@pytest.mark.parametrize(
    ("cluster", "user", "context", "message"),
    [
        ({"server": "nonsense"}, {}, None, "has server 'nonsense', which is no URL"),
        ({"server": "http://h"}, {"auth-provider": {}}, None, "logs in by 'auth-provider'"),
        ({"server": "http://h"}, {}, "three", "contexts has no entry 'three'; it has: one, two"),
        ({"server": "http://h"}, {}, "two", "clusters has no entry 'nowhere'; it has: c"),
        (
            {
                "server": "https://h",
                "certificate-authority-data": base64.b64encode(b"junk").decode(),
            },
            {},
            None,
            "its certificates cannot be used",
        ),
    ],
)
def test_names_what_is_wrong(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], context: str | None, message: str
) -> None:
    with pytest.raises(InvalidConnection, match=message) as caught:
        connect_by_kubeconfig(write(tmp_path, cluster, user), context)
    assert caught.value.fix


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConnection, match="cannot be read"):
        connect_by_kubeconfig(tmp_path / "none")
    (tmp_path / "bad").write_text("{")
    with pytest.raises(InvalidConnection, match="is not YAML"):
        connect_by_kubeconfig(tmp_path / "bad")


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")],
)
def test_a_pod_finds_the_server_by_either_family(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, server: str
) -> None:
    now = datetime.now(UTC)
    authority = make_authority("test", now, timedelta(days=1))
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert connect_from_pod(tmp_path).server == server


def test_outside_of_a_cluster_there_are_no_pod_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidConnection, match="not a pod"):
        connect_from_pod()
