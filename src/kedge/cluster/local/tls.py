"""The API's certificate, from a certificate authority of its own, kept in the data directory.

kubectl sends no token over plain HTTP; so the API speaks TLS, and the kubeconfig names the
authority that only this Kedge has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kedge.lib.certificates import make_authority, make_server_certificate

_LIFETIME = timedelta(days=3650)
_RENEW_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """Files in PEM form."""

    ca: Path
    chain: Path
    key: Path


def ensure_certificate(
    folder: Path,
    *,
    names: tuple[str, ...] = ("localhost",),
    hosts: tuple[str, ...] = ("127.0.0.1",),
) -> Certificate:
    """The certificate in `folder`; made when there is none, or when it ends soon.

    The authority's own key is not kept: a new certificate comes with a new authority.
    """
    certificate = Certificate(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    if not _is_good(certificate, hosts):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(certificate, names, hosts)
    return certificate


def _is_good(certificate: Certificate, hosts: tuple[str, ...]) -> bool:
    try:
        found = x509.load_pem_x509_certificate(certificate.chain.read_bytes())
        x509.load_pem_x509_certificate(certificate.ca.read_bytes())
        serialization.load_pem_private_key(certificate.key.read_bytes(), None)
        named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    addresses = {str(one) for one in named.get_values_for_type(x509.IPAddress)}
    return found.not_valid_after_utc > datetime.now(UTC) + _RENEW_BEFORE and addresses >= set(hosts)


def _make(certificate: Certificate, names: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    now = datetime.now(UTC)
    authority = make_authority("kedge-ca", now, _LIFETIME)
    server = make_server_certificate(authority, now, _LIFETIME, names=names, hosts=hosts)
    _write(certificate.ca, authority.certificate)
    _write(certificate.chain, server.certificate)
    _write(certificate.key, server.key)


def _write(path: Path, content: bytes) -> None:
    """Readable by the user alone, and never half-written."""
    temporary = path.with_suffix(".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    os.replace(temporary, path)
