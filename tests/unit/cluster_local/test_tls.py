"""The certificate, the token and the kubeconfig."""

from __future__ import annotations

import ssl
from pathlib import Path

import yaml

from kedge.cluster.local.kubeconfig import ensure_token, write_kubeconfig
from kedge.cluster.local.tls import ensure_certificate


def test_a_certificate_is_made_once(tmp_path: Path) -> None:
    made = ensure_certificate(tmp_path / "tls")
    before = made.chain.read_bytes()
    assert ensure_certificate(tmp_path / "tls").chain.read_bytes() == before
    for path in (made.key, made.chain, made.ca):
        assert path.stat().st_mode & 0o777 == 0o600
    other = ensure_certificate(tmp_path / "tls", hosts=("127.0.0.1", "192.0.2.1"))
    assert other.chain.read_bytes() != before


def test_a_damaged_certificate_is_made_anew(tmp_path: Path) -> None:
    made = ensure_certificate(tmp_path)
    made.chain.write_text("half")
    assert ensure_certificate(tmp_path).chain.read_bytes().startswith(b"-----BEGIN")


def test_a_client_that_knows_the_authority_trusts_the_server(tmp_path: Path) -> None:
    made = ensure_certificate(tmp_path)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    server.load_cert_chain(made.chain, made.key)
    client.load_verify_locations(made.ca)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    there = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [here, there]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting


def test_token_and_kubeconfig_are_for_the_user_alone(tmp_path: Path) -> None:
    token = ensure_token(tmp_path / "token")
    assert len(token) >= 32
    assert ensure_token(tmp_path / "token") == token
    ca = tmp_path / "ca.pem"
    ca.write_text("authority")
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, server="https://127.0.0.1:1", ca=ca, token=token)
    config = yaml.safe_load(path.read_text())
    assert config["users"][0]["user"] == {"token": token}
    assert config["clusters"][0]["cluster"]["certificate-authority-data"] == "YXV0aG9yaXR5"
    assert config["current-context"] == config["contexts"][0]["name"]
    assert {one.stat().st_mode & 0o777 for one in (path, tmp_path / "token")} == {0o600}
