"""Kubeconfigs: what is read from them, and what is said about broken ones."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from kedge.cluster.kubernetes.connection import (
    InvalidConnection,
    connect_by_kubeconfig,
    connect_from_pod,
)


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
        ({"server": "http://h"}, {"exec": {}}, None, "logs in by 'exec'"),
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


def test_outside_of_a_cluster_there_are_no_pod_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidConnection, match="not a pod"):
        connect_from_pod()
