"""Certificates for the gateway's tests, and which one a client is shown."""

from __future__ import annotations

import base64
import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from tests.kubernetes.gateways import GATEWAY
from tests.kubernetes.world import HOME, World

from kedge.lib.certificates import Pair, make_authority, make_server_certificate

DAY = timedelta(days=1)
RSA_ALONE = "ECDHE-RSA-AES128-GCM-SHA256"


def make_pair(*names: str) -> Pair:
    """One with a key of an elliptic curve."""
    now = datetime.now(UTC)
    authority = make_authority("test", now, DAY)
    return make_server_certificate(authority, now, DAY, names=names)


def make_rsa_pair(*names: str) -> Pair:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(alternatives, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        made.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def make_secret(pair: Pair, name: str = "wildcard") -> dict[str, Any]:
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": HOME},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


def shown(port: int, host: str, *, ciphers: str = "") -> bytes:
    """The certificate that a client is shown; nothing where nobody answers. With ciphers it speaks
    TLS 1.2."""
    context = ssl._create_unverified_context()
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""
    except OSError:
        return b""


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


def listener_status(world: World, name: str) -> dict[str, Any]:
    """Conditions of a listener of the Gateway, by type."""
    status = world.get("gateways", GATEWAY, HOME).get("status") or {}
    for listener in status.get("listeners") or ():
        if listener["name"] == name:
            return {one["type"]: one for one in listener["conditions"]}
    return {}
