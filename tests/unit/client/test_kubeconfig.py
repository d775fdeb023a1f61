"""Which API, as whom: files, contexts, credentials, and the Kedge that runs here."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from kedge.client.errors import ConfigProblem, NotRunning
from kedge.client.kubeconfig import discover, load, running_pid

HTTPS = {"server": "https://one:1"}


def write(path: Path, *, name: str = "one", **changes: Any) -> Path:
    document = {
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:1/"}}],
        "users": [{"name": name, "user": {"token": f"token-{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        **changes,
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_server_token_and_namespace(tmp_path: Path) -> None:
    context = {"cluster": "one", "user": "one", "namespace": "models"}
    path = write(tmp_path / "config", contexts=[{"name": "one", "context": context}])
    access = load([path])
    assert (access.server, access.namespace) == ("https://one:1", "models")
    assert access.token == "token-one"
    assert access.source == str(path)
    assert "token-one" not in repr(access)


def test_a_context_is_chosen_by_name(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", name="a"), write(tmp_path / "b", name="b")
    assert load([first, second]).server == "https://a:1"
    assert load([first, second], "b").token == "token-b"
    with pytest.raises(ConfigProblem, match=r"named `c`; it has: a, b\. Fix: .*--context"):
        load([first, second], "c")


def test_the_first_file_wins_where_two_name_the_same(tmp_path: Path) -> None:
    first = write(tmp_path / "a")
    second = write(tmp_path / "b", users=[{"name": "one", "user": {"token": "other"}}])
    assert load([first, second]).token == "token-one"
    assert load([second, first]).token == "other"


def test_data_is_base64_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "client.pem").write_bytes(b"certificate")
    path = write(
        tmp_path / "config",
        clusters=[
            {
                "name": "one",
                "cluster": {
                    "server": "https://one:1",
                    "certificate-authority-data": base64.b64encode(b"authority").decode(),
                    "tls-server-name": "api",
                    "insecure-skip-tls-verify": True,
                },
            }
        ],
        users=[
            {
                "name": "one",
                "user": {
                    "client-certificate": "client.pem",
                    "client-key-data": base64.b64encode(b"key").decode(),
                },
            }
        ],
    )
    access = load([path])
    assert (access.ca, access.client_certificate, access.client_key) == (
        b"authority", b"certificate", b"key",
    )  # fmt: skip
    assert (access.server_name, access.insecure, access.token) == ("api", True, "")


def test_a_token_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    path = write(tmp_path / "config", users=[{"name": "one", "user": {"tokenFile": "token"}}])
    assert load([path]).token == "from-file"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"users": [{"name": "one", "user": {"exec": {"command": "aws"}}}]}, "plugin"),
        ({"clusters": [{"name": "one", "cluster": {}}]}, "no `server`"),
        ({"clusters": []}, "no cluster named `one`"),
        ({"users": []}, "no user named `one`"),
        (
            {"clusters": [{"name": "one", "cluster": {**HTTPS, "certificate-authority": "no"}}]},
            "certificate-authority of",
        ),
        (
            {"users": [{"name": "one", "user": {"client-key-data": "%%%"}}]},
            "`client-key-data` is not base64",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(tmp_path: Path, changes: Any, told: str) -> None:
    path = write(tmp_path / "config", **changes)
    with pytest.raises(ConfigProblem, match=told) as caught:
        load([path])
    assert str(path) in str(caught.value)
    assert caught.value.fix


def test_no_yaml_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(ConfigProblem, match="not YAML"):
        load([tmp_path / "bad"])
    (tmp_path / "list").write_text("- a")
    with pytest.raises(ConfigProblem, match="not a mapping"):
        load([tmp_path / "list"])
    with pytest.raises(ConfigProblem, match="does not exist"):
        load([tmp_path / "none"])


def test_a_broken_certificate_is_named_by_its_file(tmp_path: Path) -> None:
    cluster = {
        "server": "https://one:1",
        "certificate-authority-data": base64.b64encode(b"no certificate").decode(),
    }
    path = write(tmp_path / "config", clusters=[{"name": "one", "cluster": cluster}])
    with pytest.raises(ConfigProblem, match="cannot be read"):
        load([path]).ssl_context()


def test_plain_http_needs_no_certificates(tmp_path: Path) -> None:
    cluster = {"server": "http://127.0.0.1:1"}
    path = write(tmp_path / "config", clusters=[{"name": "one", "cluster": cluster}])
    assert load([path]).ssl_context() is None


def test_the_order_is_named_then_environment_then_local(tmp_path: Path) -> None:
    named, environment = write(tmp_path / "a", name="a"), write(tmp_path / "b", name="b")
    home = tmp_path / "home"
    home.mkdir()
    write(home / "kubeconfig", name="local")
    (home / "kedge.pid").write_text(f"{os.getpid()}\n")
    env = {"KUBECONFIG": str(environment), "KEDGE_HOME": str(home)}
    assert discover(named, environ=env).server == "https://a:1"
    assert discover(environ=env).server == "https://b:1"
    local = discover(environ={"KEDGE_HOME": str(home)})
    assert (local.server, local.local) == ("https://local:1", True)
    with pytest.raises(ConfigProblem, match="does not exist"):
        discover(environ={"KUBECONFIG": str(tmp_path / "none"), "KEDGE_HOME": str(home)})


def test_no_running_kedge_is_said(tmp_path: Path) -> None:
    env = {"KEDGE_HOME": str(tmp_path)}
    with pytest.raises(NotRunning, match=r"No Kedge is running .*Fix: .*kedge up --detach"):
        discover(environ=env)
    write(tmp_path / "kubeconfig")
    (tmp_path / "kedge.pid").write_text("not a number")
    with pytest.raises(NotRunning):
        discover(environ=env)


def test_a_pid_counts_only_while_its_process_lives(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    (tmp_path / "kedge.pid").write_text(str(os.getpid()))
    assert running_pid(tmp_path) == os.getpid()
    (tmp_path / "kedge.pid").write_text("4194304")  # above the kernel's largest pid
    assert running_pid(tmp_path) is None
