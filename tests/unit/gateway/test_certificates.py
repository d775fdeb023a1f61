"""Which certificates are served, and what is wrong with the others."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kedge.api.scheme import GATEWAY, SECRET
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.gateway.certificates import (
    BadCertificate,
    Certificates,
    Chain,
    Wanted,
    read_pair,
    read_wanted,
    write_aside,
)
from kedge.gateway.listeners import make_listeners
from kedge.lib.certificates import Pair, make_authority, make_server_certificate
from kedge.reconcile.informer import Informer
from kedge.settings.gateway import GatewaySettings

DAY = timedelta(days=1)


def make_pair(*names: str) -> Pair:
    now = datetime.now(UTC)
    return make_server_certificate(make_authority("test", now, DAY), now, DAY, names=names)


def make_secret(certificate: bytes, key: bytes) -> dict[str, Any]:
    data = {"tls.crt": certificate, "tls.key": key}
    return {
        "metadata": {"name": "wildcard", "namespace": "kedge"},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


def make_gateway(*listeners: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "g", "namespace": "kedge"}, "spec": {"listeners": list(listeners)}}


def https(name: str, host: str = "", /, **ref: str) -> dict[str, Any]:
    listener = {"name": name, "port": 443, "protocol": "HTTPS",
                "tls": {"certificateRefs": [ref] if ref else []}}  # fmt: skip
    return {**listener, "hostname": host} if host else listener


def test_listeners_name_hosts_and_secrets() -> None:
    found = read_wanted(
        make_gateway(
            {"name": "http", "port": 80, "protocol": "HTTP"},
            https("one", name="wildcard"),
            https("two", "*.example.com", name="example", namespace="kedge"),
            https("three", "*.example.com", name="other"),
            https("four", "a.example.com"),
            https("five", "b.example.com", name="x", namespace="elsewhere"),
            https("six", "c.example.com", name="x", kind="ConfigMap"),
        )
    )
    assert found[:2] == [
        Wanted("one", "", ("wildcard",)), Wanted("two", "*.example.com", ("example",)),
    ]  # fmt: skip
    assert [(one.listener, [reason for reason, _ in one.problems]) for one in found[2:]] == [
        ("three", ["HostnameConflict"]),
        ("four", ["InvalidCertificateRef"]),
        ("five", ["RefNotPermitted"]),
        ("six", ["InvalidCertificateRef"]),
    ]


def test_a_listener_names_several_secrets() -> None:
    listener = https("one", name="rsa")
    listener["tls"]["certificateRefs"] += [
        {"name": "ecdsa"}, {"name": "x", "namespace": "elsewhere"}, {"name": "rsa"},
    ]  # fmt: skip
    (found,) = read_wanted(make_gateway(listener))
    assert found.secrets == ("rsa", "ecdsa")
    ((reason, message),) = found.problems
    assert (reason, message) == ("RefNotPermitted", "Secret elsewhere/x is not in namespace kedge.")


def test_what_envoy_would_refuse_is_not_given_to_it() -> None:
    good, other = make_pair("a.example.com"), make_pair("b.example.com")
    assert read_pair(make_secret(good.certificate, good.key)) == (
        good.certificate.decode(),
        good.key.decode(),
    )
    small = rsa.generate_private_key(65537, 1024).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for secret, word in (
        (None, "does not exist"),
        (make_secret(b"no", good.key), "PEM"),
        (make_secret(good.certificate, b""), "PEM"),
        ({**make_secret(b"", b""), "data": {"tls.crt": "%%%"}}, "PEM"),
        (make_secret(good.certificate, other.key), "does not belong"),
        (make_secret(good.certificate, small), "does not belong"),
    ):
        with pytest.raises(BadCertificate, match=word):
            read_pair(secret)


def test_a_file_is_replaced_at_once_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "tls" / "wildcard.json"
    for text in ("one", "two"):
        write_aside(path, text)
        assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_envoy_chooses_by_name_and_watches_the_files() -> None:
    settings = GatewaySettings(
        xds_socket=Path("/run/kedge/xds.sock"),
        admin_socket=Path("/run/kedge/admin.sock"),
        host="::",
        https_port=8443,
    )
    names = {one.name for one in make_listeners(settings)}
    assert "outside-tls" not in names
    folder = settings.tls_folder
    chains = [
        Chain("", (("wildcard", folder / "wildcard.json"), ("ecdsa", folder / "ecdsa.json"))),
        Chain("*.example.com", (("example", folder / "example.json"),)),
    ]
    made = next(one for one in make_listeners(settings, chains) if one.name == "outside-tls")
    assert made.address.socket_address.port_value == 8443
    assert made.address.socket_address.ipv4_compat
    assert [list(one.filter_chain_match.server_names) for one in made.filter_chains] == [
        [], ["*.example.com"],
    ]  # fmt: skip
    several, one = (chain.SerializeToString() for chain in made.filter_chains)
    assert b"/run/kedge/tls/wildcard.json" in several
    assert b"/run/kedge/tls/ecdsa.json" in several
    assert b"/run/kedge/tls/example.json" in one
    assert json.dumps("h2").encode().strip(b'"') in made.filter_chains[0].SerializeToString()


class Served:
    """A Gateway whose one listener names these Secrets, and what is made of them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.cluster = LocalCluster(Store(":memory:"), AdmitAll())
        self.gateways = Informer(self.cluster, GATEWAY, namespace="kedge")
        self.certificates = Certificates(self.cluster, self.gateways, "kedge/g", folder)
        (self._secrets,) = self.certificates.informers
        self._refs = [{"name": name} for name in names]

    async def start(self) -> Served:
        made = make_gateway(https("one"))
        made["spec"]["listeners"][0]["tls"]["certificateRefs"] = self._refs
        made |= {"apiVersion": GATEWAY.api_version, "kind": GATEWAY.kind}
        made["spec"]["gatewayClassName"] = "kedge"
        await self.cluster.create(GATEWAY, made)
        await self.gateways._relist()
        await self._secrets._relist()
        self.certificates.follow()
        return self

    async def put(self, name: str, pair: Pair) -> None:
        secret = make_secret(pair.certificate, pair.key)
        secret["metadata"]["name"] = name
        await self.cluster.apply(SECRET, {"apiVersion": "v1", "kind": "Secret", **secret})
        await self._secrets._relist()

    @property
    def names(self) -> list[list[str]]:
        return [[name for name, _ in chain.files] for chain in self.certificates.chains]

    @property
    def files(self) -> dict[str, int]:
        return {path.stem: path.stat().st_ino for path in self.folder.iterdir()}


async def test_good_certificates_are_served_beside_a_bad_one(tmp_path: Path) -> None:
    it = await Served(tmp_path, "a", "b").start()
    (told,) = it.certificates.wanted
    assert (it.names, told.served, len(told.problems)) == ([], False, 2)
    await it.put("b", make_pair("b.example.com"))
    (told,) = it.certificates.wanted
    assert (it.names, told.served) == ([["b"]], True)
    ((reason, message),) = told.problems
    assert reason == "InvalidCertificateRef"
    assert message.startswith("Secret kedge/a: It does not exist")


async def test_a_renewed_certificate_leaves_the_others_alone(tmp_path: Path) -> None:
    it = await Served(tmp_path, "a", "b").start()
    await it.put("a", make_pair("a.example.com"))
    await it.put("b", make_pair("b.example.com"))
    assert it.names == [["a", "b"]]
    changes = []
    it.certificates.on_change(lambda: changes.append(1))
    before = it.files
    await it.put("b", make_pair("b.example.com"))
    after = it.files
    assert (after["a"], after["b"] != before["b"]) == (before["a"], True)
    # Envoy watches the file; no listener is sent to it.
    assert changes == []
    # A bad one takes neither away.
    await it.put("b", Pair(make_pair("b.example.com").certificate, make_pair("x").key))
    assert (it.names, it.files) == ([["a", "b"]], after)
    (told,) = it.certificates.wanted
    assert (told.served, len(told.problems)) == (True, 1)
