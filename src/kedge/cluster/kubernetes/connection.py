"""Where an API server is and who we are there."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kedge.cluster.kubernetes.plugin import token_of_plugin
from kedge.lib.addresses import join
from kedge.lib.errors import KedgeError

_TOKEN_SECONDS = 60.0
_POD_CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class InvalidConnection(KedgeError):
    """A kubeconfig, or a pod's credentials, that cannot be used."""

    reason = "InvalidKubeconfig"


@dataclass(frozen=True)
class Connection:
    """How to reach one API server.

    Attributes:
        server: base URL.
        socket: path of a unix socket to connect to instead of the URL's host.
        tls: context for https; None for http.
        server_name: the name that the certificate must carry, where it is not the URL's host.
        token: gives the bearer token of now, or None.
    """

    server: str
    socket: str | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    token: Callable[[], str | None] = lambda: None


def connect_by_socket(path: str | os.PathLike[str]) -> Connection:
    """A server on a unix socket; the socket's file mode says who may connect."""
    return Connection("http://kedge.local", socket=os.fspath(path))


def connect_from_pod(credentials: Path = _POD_CREDENTIALS) -> Connection:
    """The server of the Kubernetes cluster that this process runs in."""
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST"),
        os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
    )
    if not host:
        raise InvalidConnection(
            "KUBERNETES_SERVICE_HOST is not set, so this is not a pod of a Kubernetes cluster.",
            fix="Give a kubeconfig.",
        )
    return Connection(
        f"https://{join(host, port)}",
        tls=ssl.create_default_context(cafile=str(credentials / "ca.crt")),
        token=_token_of_file(credentials / "token"),
    )


def connect_by_kubeconfig(path: str | os.PathLike[str], context: str | None = None) -> Connection:
    """The server and user of a kubeconfig's context (of its current one by default)."""
    file = Path(path)
    config = _read_kubeconfig(file)
    chosen = context or config.get("current-context") or ""
    where = _named(file, config, "contexts", chosen).get("context") or {}
    cluster = _named(file, config, "clusters", where.get("cluster", "")).get("cluster") or {}
    user: dict[str, Any] = {}
    if where.get("user"):
        user = _named(file, config, "users", where["user"]).get("user") or {}
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise InvalidConnection(
            f"{file}: cluster {where.get('cluster')!r} has server {server!r}, which is no URL.",
            fix="Set clusters[].cluster.server to an http:// or https:// URL.",
        )
    return Connection(
        server,
        tls=_make_tls(file, cluster, user) if server.startswith("https://") else None,
        server_name=cluster.get("tls-server-name"),
        token=_token_of_user(file, user),
    )


def _read_kubeconfig(file: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InvalidConnection(
            f"{file} cannot be read: {error.strerror}.", fix="Give the path of a kubeconfig."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConnection(
            f"{file} is not YAML: {error}", fix="Give the path of a kubeconfig."
        ) from error
    if not isinstance(config, dict):
        raise InvalidConnection(
            f"{file} holds no kubeconfig.", fix="Give the path of a file of kind Config."
        )
    return config


def _named(file: Path, config: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    entries = [entry for entry in config.get(section) or () if isinstance(entry, dict)]
    for entry in entries:
        if entry.get("name") == name:
            return entry
    known = ", ".join(str(entry.get("name")) for entry in entries) or "none"
    raise InvalidConnection(
        f"{file}: {section} has no entry {name!r}; it has: {known}.",
        fix=f"Name one of them, or add the entry to {section}.",
    )


def _make_tls(file: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    try:
        authority = _bytes_of(file, cluster, "certificate-authority")
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        certificate = _bytes_of(file, user, "client-certificate")
        key = _bytes_of(file, user, "client-key")
        if certificate and key:
            _load_client_certificate(tls, certificate, key)
    except (OSError, ValueError) as error:
        raise InvalidConnection(
            f"{file}: its certificates cannot be used: {error}",
            fix="Write the kubeconfig anew with valid PEM certificates.",
        ) from error
    return tls


def _load_client_certificate(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The ssl module reads a key pair from files only.
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        tls.load_cert_chain(file.name)


def _bytes_of(file: Path, entry: dict[str, Any], field: str) -> bytes | None:
    """The value of `{field}-data` or of the file that `field` names, relative to the kubeconfig."""
    if data := entry.get(f"{field}-data"):
        return base64.b64decode(data)
    if name := entry.get(field):
        return (file.parent / str(name)).read_bytes()
    return None


def _token_of_user(file: Path, user: dict[str, Any]) -> Callable[[], str | None]:
    if "auth-provider" in user:
        raise InvalidConnection(
            f"{file}: the user logs in by 'auth-provider', which Kubernetes gave up in 1.26.",
            fix="Have your provider's tool write the kubeconfig anew.",
        )
    if user.get("exec"):
        return token_of_plugin(file, user["exec"])
    if user.get("tokenFile"):
        return _token_of_file(file.parent / user["tokenFile"])
    token = user.get("token")
    return lambda: token


def _token_of_file(file: Path) -> Callable[[], str | None]:
    """Reads the file again every minute: Kubernetes renews the tokens of pods."""
    read_at, token = -_TOKEN_SECONDS, ""

    def read() -> str | None:
        nonlocal read_at, token
        if time.monotonic() - read_at >= _TOKEN_SECONDS:
            token, read_at = file.read_text().strip(), time.monotonic()
        return token

    return read
