"""HTTPS: the certificates that the Gateway's listeners name, from Secrets to files.

Envoy watches the files, and serves a new certificate from the next handshake on: no listener
changes, no connection is closed. A certificate that cannot be served is kept from Envoy, the one
before it stays in use, and the Gateway's status says what is wrong.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kedge.api.scheme import SECRET
from kedge.cluster.base import Cluster, EventType, Object
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.informer import Informer

log = logging.getLogger(__name__)

_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_MIN_BITS = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


Reason = tuple[str, str]
"""Reason and message of a condition."""


@dataclass(frozen=True)
class Wanted:
    """A listener of the Gateway with TLS.

    Attributes:
        listener: its name.
        host: the name that clients ask for, perhaps `*.example.com`; empty for any.
        secrets: with its certificates.
        problems: why it, or one of its certificates, cannot be served.
        served: whether there is a certificate of it that nothing is wrong with.
    """

    listener: str
    host: str = ""
    secrets: tuple[str, ...] = ()
    problems: tuple[Reason, ...] = ()
    served: bool = False


@dataclass(frozen=True)
class Chain:
    """Certificates that Envoy can serve for a host: it chooses among them by the name that a client
    asks for and by the kinds of keys that it knows.

    Attributes:
        files: by the name of each certificate's Secret, where it is.
    """

    host: str
    files: tuple[tuple[str, Path], ...]


class BadCertificate(Exception):
    """A Secret whose certificate cannot be served; says why."""


def read_wanted(gateway: Object) -> list[Wanted]:
    """The listeners of a Gateway with TLS, as far as one can tell without their Secrets."""
    found: list[Wanted] = []
    hosts: set[str] = set()
    for listener in gateway["spec"].get("listeners") or ():
        if listener.get("protocol") != "HTTPS":
            continue
        one = _read_listener(listener, gateway["metadata"]["namespace"])
        if one.host in hosts and one.secrets:
            message = f"Another listener is for {one.host or 'every host'} already."
            one = Wanted(one.listener, one.host, problems=(("HostnameConflict", message),))
        hosts.add(one.host)
        found.append(one)
    return found


def _read_listener(listener: Mapping[str, object], namespace: str) -> Wanted:
    tls = listener.get("tls")
    refs = (tls.get("certificateRefs") or []) if isinstance(tls, dict) else []
    secrets: dict[str, None] = {}
    problems = []
    for ref in refs or [{}]:
        name = str(ref.get("name") or "")
        if not name or ref.get("kind", "Secret") != "Secret" or ref.get("group"):
            what = f"{ref.get('kind')} {name} is" if name else "It names"
            problems.append(("InvalidCertificateRef", f"{what} no Secret with a certificate."))
        elif (ref.get("namespace") or namespace) != namespace:
            message = f"Secret {ref['namespace']}/{name} is not in namespace {namespace}."
            problems.append(("RefNotPermitted", message))
        else:
            secrets[name] = None
    host = str(listener.get("hostname") or "")
    return Wanted(str(listener["name"]), host, tuple(secrets), tuple(problems))


def read_pair(secret: Object | None) -> tuple[str, str]:
    """Certificate chain and key of a Secret, as PEM.

    Raises:
        BadCertificate: Envoy would refuse it.
    """
    if secret is None:
        raise BadCertificate("It does not exist, or is not of type kubernetes.io/tls.")
    data = secret.get("data") or {}
    try:
        chain, key = (base64.b64decode(data.get(one) or "") for one in ("tls.crt", "tls.key"))
        certificates = x509.load_pem_x509_certificates(chain)
        private = serialization.load_pem_private_key(key, None)
        same = certificates[0].public_key() == private.public_key()
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificate(
            f"Its tls.crt and tls.key are no PEM that can be read: {error}."
        ) from (error)
    if not same:
        raise BadCertificate("Its tls.key does not belong to its tls.crt.")
    if isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < _MIN_BITS:
            raise BadCertificate(f"Its RSA key has {private.key_size} bits; Envoy takes 2048 on.")
    elif not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name not in _CURVES:
        raise BadCertificate("Its key is neither RSA nor ECDSA on P-256, P-384 or P-521.")
    return chain.decode(), key.decode()


class Certificates:
    """Follows the Secrets that a Gateway names.

    Args:
        gateways: has the Gateway, which is told as `namespace/name`.
        folder: where the files are put.

    Attributes:
        chains: what can be served now.
        wanted: what is asked for, with its problems.
    """

    def __init__(
        self,
        cluster: Cluster,
        gateways: Informer,
        gateway: str,
        folder: Path,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.chains: tuple[Chain, ...] = ()
        self.wanted: tuple[Wanted, ...] = ()
        self._namespace, _, self._name = gateway.partition("/")
        self._folder = folder
        self._gateways = gateways
        self._secrets = Informer(
            cluster, SECRET, namespace=self._namespace, fields="type=kubernetes.io/tls", clock=clock
        )
        self.informers = (self._secrets,)
        self._written: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, handler: Callable[[], None]) -> None:
        """Call `handler()` after each change of what is served or wanted."""
        self._listeners.append(handler)

    def follow(self) -> None:
        """Take in what there is, and from now on each change."""
        self._look()
        for informer in (self._gateways, self._secrets):
            informer.on_change(self._on_change)

    def _on_change(self, type: EventType, obj: Object, old: Object | None) -> None:
        before = self.chains, self.wanted
        self._look()
        if before != (self.chains, self.wanted):
            for handler in self._listeners:
                handler()

    def _look(self) -> None:
        gateway = self._gateways.get(self._namespace, self._name)
        wanted = [self._load(one) for one in read_wanted(gateway)] if gateway else []
        chains = [Chain(one.host, self._files(one.secrets)) for one in wanted]
        self.wanted = tuple(wanted)
        self.chains = tuple(chain for chain in chains if chain.files)

    def _load(self, wanted: Wanted) -> Wanted:
        """Bring the files of its Secrets up to date; what is wrong with them."""
        found = {secret: self._write(secret) for secret in wanted.secrets}
        problems = tuple(
            ("InvalidCertificateRef", f"Secret {self._namespace}/{secret}: {problem}")
            for secret, problem in found.items()
            if problem
        )
        served = any(not problem for problem in found.values())
        return replace(wanted, problems=wanted.problems + problems, served=served)

    def _files(self, secrets: Iterable[str]) -> tuple[tuple[str, Path], ...]:
        """Those of the Secrets that have, or had, a certificate that can be served."""
        files = ((secret, self._folder / f"{secret}.json") for secret in secrets)
        return tuple(one for one in files if one[0] in self._written or one[1].exists())

    def _write(self, name: str) -> str:
        """Put a Secret's certificate into its file; what is wrong with it."""
        try:
            chain, key = read_pair(self._secrets.get(self._namespace, name))
        except BadCertificate as bad:
            if self._told.get(name) != str(bad):
                log.error("Secret %s/%s: %s", self._namespace, name, bad)
            self._told[name] = str(bad)
            return str(bad)
        self._told.pop(name, None)
        text = json.dumps({"resources": [_make_secret(name, chain, key)]})
        if self._written.get(name) != text:
            write_aside(self._folder / f"{name}.json", text)
            self._written[name] = text
            log.info("certificate of Secret %s/%s is served", self._namespace, name)
        return ""


def _make_secret(name: str, chain: str, key: str) -> dict[str, object]:
    certificate = {
        "certificate_chain": {"inline_string": chain},
        "private_key": {"inline_string": key},
    }
    return {"@type": _TYPE, "name": name, "tls_certificate": certificate}


def write_aside(path: Path, text: str) -> None:
    """Replace a file at once: whoever watches it never reads half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number, aside = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(number, "w") as file:
        file.write(text)
    os.replace(aside, path)
