"""A kube-apiserver and its etcd, from the folder that `KUBEBUILDER_ASSETS` names."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from ssl import _create_unverified_context
from types import TracebackType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_TOKEN = "contract"
_SECONDS = 60.0


class ApiServer:
    """Runs while its context lasts; its data is in `folder`.

    Attributes:
        kubeconfig: for an administrator.
    """

    def __init__(self, assets: Path, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self._assets = assets
        self._folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ApiServer:
        with contextlib.ExitStack() as stack:
            etcd = self._start_etcd(stack)
            port = self._start_api(stack, etcd)
            self._write_kubeconfig(port)
            self._wait(port)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start_etcd(self, stack: contextlib.ExitStack) -> str:
        client, peer = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
        self._start(
            stack, "etcd",
            f"--data-dir={self._folder / 'etcd'}", "--unsafe-no-fsync=true",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )  # fmt: skip
        return client

    def _start_api(self, stack: contextlib.ExitStack, etcd: str) -> int:
        port = _free_port()
        key = self._folder / "service-account.key"
        key.write_bytes(
            rsa.generate_private_key(65537, 2048).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f"{_TOKEN},admin,admin,system:masters\n")
        self._start(
            stack, "kube-apiserver",
            f"--etcd-servers={etcd}", f"--cert-dir={self._folder / 'certificates'}",
            "--bind-address=127.0.0.1", f"--secure-port={port}",
            "--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount", f"--token-auth-file={tokens}",
            "--service-account-issuer=https://127.0.0.1",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
        )  # fmt: skip
        return port

    def _start(self, stack: contextlib.ExitStack, program: str, *arguments: str) -> None:
        log = stack.enter_context((self._folder / f"{program}.log").open("wb"))
        process = stack.enter_context(
            subprocess.Popen([self._assets / program, *arguments], stdout=log, stderr=log)
        )
        stack.callback(process.terminate)

    def _write_kubeconfig(self, port: int) -> None:
        self.kubeconfig.write_text(
            f"""
            apiVersion: v1
            kind: Config
            clusters:
            - name: api
              cluster: {{server: "https://127.0.0.1:{port}", insecure-skip-tls-verify: true}}
            users: [{{name: admin, user: {{token: {_TOKEN}}}}}]
            contexts: [{{name: api, context: {{cluster: api, user: admin}}}}]
            current-context: api
            """
        )

    def _wait(self, port: int) -> None:
        request = urllib.request.Request(
            f"https://127.0.0.1:{port}/readyz", headers={"Authorization": f"Bearer {_TOKEN}"}
        )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, context=_create_unverified_context()):
                    return
            except OSError as error:
                if time.monotonic() > deadline:
                    log = (self._folder / "kube-apiserver.log").read_text()[-2000:]
                    raise TimeoutError(f"kube-apiserver is not ready: {log}") from error
                time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
