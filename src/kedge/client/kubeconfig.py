"""Which API to talk to, and as whom: kubeconfig files, and the Kedge that runs on this machine.

The order is that of the command line: what was named, then `$KUBECONFIG`, then the running local
Kedge. `~/.kube/config` is not looked at: a person who has one for a production cluster should not
meet it by accident.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.client.errors import ConfigProblem, NotRunning
from kedge.settings.local import default_data_dir

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True)
class Access:
    """An API server and the right to use it.

    Attributes:
        server: its base URL.
        source: the file that says so, for messages.
        namespace: where objects are when nothing else is said.
        ca: PEM of the authority that signed the server's certificate; the system's when empty.
        token: bearer token.
        client_certificate: PEM; `client_key` goes with it.
        insecure: do not check the server's certificate.
        server_name: the name that the certificate must have, when not the URL's host.
        local: this is a Kedge on this machine, found by its data directory.
    """

    server: str
    source: str
    namespace: str = "default"
    ca: bytes = b""
    token: str = field(default="", repr=False)
    client_certificate: bytes = b""
    client_key: bytes = field(default=b"", repr=False)
    insecure: bool = False
    server_name: str = ""
    local: bool = False

    def ssl_context(self) -> ssl.SSLContext | None:
        """How to check and be checked; None for plain HTTP."""
        if not self.server.startswith("https:"):
            return None
        import ssl

        try:
            context = ssl.create_default_context(cadata=self.ca.decode() or None)
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.client_certificate:
                _load_client_certificate(context, self.client_certificate, self.client_key)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise ConfigProblem(
                f"A certificate or key in {self.source} cannot be read: {error}.",
                fix="Write the kubeconfig anew; for a local Kedge, `kedge down` and `kedge up`.",
            ) from error
        return context


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The ssl module takes client certificates from files only.
    import tempfile

    with tempfile.NamedTemporaryFile() as pem:  # created readable by its owner alone
        pem.write(certificate + b"\n" + key)
        pem.flush()
        context.load_cert_chain(pem.name)


def discover(
    kubeconfig: Path | None = None,
    context: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Access:
    """The API that the command line, the environment or the running local Kedge names.

    Raises:
        ConfigProblem: the named kubeconfig cannot be used.
        NotRunning: none is named and no local Kedge runs.
    """
    env = os.environ if environ is None else environ
    if kubeconfig is not None:
        return load([kubeconfig], context)
    named = [Path(part) for part in env.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        return load(named, context)
    data_dir = default_data_dir(env)
    if running_pid(data_dir) is None:
        raise NotRunning(
            f"No Kedge is running on {data_dir}, and neither --kubeconfig nor $KUBECONFIG names"
            " another.",
            fix="Start one with `kedge up --detach`.",
        )
    return load([data_dir / "kubeconfig"], context, local=True)


def running_pid(data_dir: Path) -> int | None:
    """The pid of the Kedge that runs on that data directory; None when none does."""
    try:
        pid = int((data_dir / "kedge.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError) as error:
        return pid if isinstance(error, PermissionError) and pid > 0 else None
    return pid


def load(files: list[Path], context: str | None = None, *, local: bool = False) -> Access:
    """What kubeconfig files say, the first one winning where two name the same thing."""
    present = [path for path in files if path.exists()]
    if not present:
        raise ConfigProblem(
            f"The kubeconfig {', '.join(map(str, files))} does not exist.",
            fix="Name another with --kubeconfig, or unset KUBECONFIG to use the local Kedge.",
        )
    merged = _merge(present)
    name = context or merged.current
    chosen = merged.named("contexts", name, "context")
    cluster = merged.named("clusters", str(chosen.value.get("cluster") or ""), "cluster")
    user = merged.named("users", str(chosen.value.get("user") or ""), "user", optional=True)
    server = str(cluster.value.get("server") or "").rstrip("/")
    if not server:
        raise ConfigProblem(
            f"{cluster.file}: the cluster of context `{name}` has no `server`.",
            fix="Give it the API's URL.",
        )
    return Access(
        server=server,
        source=str(chosen.file),
        namespace=str(chosen.value.get("namespace") or "default"),
        ca=cluster.content("certificate-authority"),
        token=_token(user),
        client_certificate=user.content("client-certificate"),
        client_key=user.content("client-key"),
        insecure=bool(cluster.value.get("insecure-skip-tls-verify")),
        server_name=str(cluster.value.get("tls-server-name") or ""),
        local=local,
    )


@dataclass(frozen=True)
class _Entry:
    """A cluster, user or context, and the file that it comes from."""

    value: dict[str, Any]
    file: Path

    def content(self, key: str) -> bytes:
        """The bytes of `{key}-data` (base64), or of the file that `{key}` names."""
        data = self.value.get(f"{key}-data")
        if data:
            try:
                return base64.b64decode(str(data), validate=True)
            except binascii.Error as error:
                raise ConfigProblem(
                    f"{self.file}: `{key}-data` is not base64: {error}.",
                    fix="Write the kubeconfig anew.",
                ) from error
        path = self.value.get(key)
        return _read(self.file.parent / str(path), f"{key} of {self.file}") if path else b""


@dataclass(frozen=True)
class _Merged:
    current: str
    entries: dict[tuple[str, str], _Entry]
    files: str

    def named(self, section: str, name: str, key: str, *, optional: bool = False) -> _Entry:
        entry = self.entries.get((section, name))
        if entry is not None:
            return entry
        if optional and not name:
            return _Entry({}, Path("."))
        known = ", ".join(n for s, n in self.entries if s == section) or "none"
        raise ConfigProblem(
            f"{self.files} has no {key} named `{name}`; it has: {known}.",
            fix="Name one of these with --context."
            if section == "contexts"
            else "Correct the name in the kubeconfig.",
        )


def _merge(files: list[Path]) -> _Merged:
    import yaml

    current, entries = "", dict[tuple[str, str], _Entry]()
    for path in files:
        try:
            document = yaml.safe_load(_read(path, "kubeconfig")) or {}
        except yaml.YAMLError as error:
            raise ConfigProblem(
                f"The kubeconfig {path} is not YAML: {error}.", fix="Correct it at that line."
            ) from error
        if not isinstance(document, dict):
            raise ConfigProblem(
                f"The kubeconfig {path} is not a mapping.", fix="Name a kubeconfig file."
            )
        current = current or str(document.get("current-context") or "")
        for section, key in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            for item in document.get(section) or []:
                entry = _Entry(item.get(key) or {}, path)
                entries.setdefault((section, str(item.get("name"))), entry)
    return _Merged(current, entries, ", ".join(map(str, files)))


def _token(user: _Entry) -> str:
    if user.value.get("exec") or user.value.get("auth-provider"):
        raise ConfigProblem(
            f"{user.file}: the user gets its credentials from a plugin, which Kedge does not run.",
            fix="Use a kubeconfig with a token: `kubectl create token SERVICEACCOUNT` makes one.",
        )
    path = user.value.get("tokenFile")
    if path:
        return _read(user.file.parent / str(path), f"tokenFile of {user.file}").decode().strip()
    return str(user.value.get("token") or "")


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigProblem(
            f"The {what} cannot be read: {error}.", fix="Correct its path or its permissions."
        ) from error
