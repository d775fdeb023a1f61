"""A Kubernetes control plane from the folder that `KUBEBUILDER_ASSETS` names.

etcd and kube-apiserver, and where it is asked for kube-controller-manager and kube-scheduler; there
is no kubelet, so that no pod ever runs but by a test's word, or on a node that a test brings.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from ssl import _create_unverified_context
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.ports import free_port

_TOKEN = "contract"
_SECONDS = 60.0
_CONTROLLERS = (
    "garbage-collector-controller", "namespace-controller", "deployment-controller",
    "replicaset-controller", "endpointslice-controller", "serviceaccount-controller",
    "resourcequota-controller",
)  # fmt: skip
_AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


class ApiServer:
    """Runs while its context lasts; its data is in `folder`.

    Args:
        controllers: run kube-controller-manager too.
        scheduler: run kube-scheduler too.
        audit: write down every request, see `audited`.
        nodes: nodes will register: what watches them runs too, and pods get tokens and volumes.

    Attributes:
        kubeconfig: for an administrator.
    """

    def __init__(
        self,
        assets: Path,
        folder: Path,
        *,
        controllers: bool = False,
        scheduler: bool = False,
        audit: bool = False,
        nodes: bool = False,
    ) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self._assets = assets
        self._folder = folder
        self._controllers = controllers
        self._scheduler = scheduler
        self._nodes = nodes
        self._audit = folder / "audit.log" if audit else None
        self._stack = contextlib.ExitStack()
        self._port = free_port()
        self._api: subprocess.Popen[bytes] | None = None
        self._etcd = ""

    def __enter__(self) -> ApiServer:
        with contextlib.ExitStack() as stack:
            self._etcd = self._start_etcd(stack)
            self._write_keys()
            stack.callback(self._end_api)
            self.start_api()
            self.kubeconfig.write_text(self._kubeconfig(_TOKEN))
            if self._controllers:
                self._start_controllers(stack)
            if self._scheduler:
                self._start_scheduler(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- for tests ---------------------------------------------------------------------------

    def kubectl(self, *arguments: str, given: str = "", check: bool = True) -> str:
        """What kubectl prints, as administrator."""
        done = subprocess.run(
            [self._assets / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=given, capture_output=True, text=True, timeout=60, check=False,
            env={"HOME": str(self._folder), "KUBECTL_KUBERC": "false", "PATH": os.environ["PATH"]},
        )  # fmt: skip
        said = done.stdout[-4000:] + done.stderr
        assert not check or done.returncode == 0, f"kubectl {arguments}: {said}"
        return done.stdout + done.stderr

    def kubeconfig_of(self, account: str, namespace: str) -> Path:
        """A kubeconfig of a service account."""
        path = self._folder / f"{namespace}-{account}.kubeconfig"
        token = self.kubectl("create", "token", account, "-n", namespace).strip()
        path.write_text(self._kubeconfig(token))
        return path

    def cpu(self) -> float:
        """Seconds of processor time that kube-apiserver has used so far."""
        assert self._api is not None
        fields = Path(f"/proc/{self._api.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill_api(self) -> None:
        """End kube-apiserver at once; etcd keeps what it acknowledged."""
        assert self._api is not None
        self._api.kill()
        self._api.wait()

    def start_api(self) -> None:
        """Start kube-apiserver, on the port that it always has, and wait until it is ready."""
        with (self._folder / "kube-apiserver.log").open("ab") as log:
            self._api = subprocess.Popen(
                [self._assets / "kube-apiserver", *self._api_arguments()], stdout=log, stderr=log
            )
        self._wait()

    def audited(self) -> Iterator[dict[str, Any]]:
        """Every request that was answered, as kube-apiserver's audit log has it."""
        assert self._audit is not None
        for line in self._audit.read_text().splitlines():
            yield json.loads(line)

    # -- how ---------------------------------------------------------------------------------

    def _start_etcd(self, stack: contextlib.ExitStack) -> str:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._start(
            stack, "etcd",
            f"--data-dir={self._folder / 'etcd'}", "--unsafe-no-fsync=true",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )  # fmt: skip
        return client

    def _write_keys(self) -> None:
        self._key.write_bytes(
            rsa.generate_private_key(65537, 2048).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (self._folder / "tokens.csv").write_text(f"{_TOKEN},admin,admin,system:masters\n")

    @property
    def _key(self) -> Path:
        return self._folder / "service-account.key"

    def _api_arguments(self) -> list[str]:
        arguments = [
            f"--etcd-servers={self._etcd}", f"--cert-dir={self._folder / 'certificates'}",
            "--bind-address=127.0.0.1", f"--secure-port={self._port}",
            "--service-cluster-ip-range=10.0.0.0/16", "--authorization-mode=RBAC",
            *(() if self._nodes else ("--disable-admission-plugins=ServiceAccount",)),
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--service-account-issuer=https://127.0.0.1", "--event-ttl=1h",
            f"--service-account-key-file={self._key}",
            f"--service-account-signing-key-file={self._key}",
        ]  # fmt: skip
        if self._audit is not None:
            policy = self._folder / "audit.yaml"
            policy.write_text(_AUDIT)
            arguments += [f"--audit-log-path={self._audit}", f"--audit-policy-file={policy}"]
        return arguments

    def _end_api(self) -> None:
        if self._api is not None:
            self._api.terminate()
            try:
                self._api.wait(10)
            except subprocess.TimeoutExpired:
                self._api.kill()
                self._api.wait()

    def _start_controllers(self, stack: contextlib.ExitStack) -> None:
        # All that a distribution has: some give pods more than others.
        controllers = ("*",) if self._nodes else _CONTROLLERS
        # What the API server shows was made by itself.
        authority = [f"--root-ca-file={self._folder / 'certificates' / 'apiserver.crt'}"]
        self._start(
            stack, "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}", "--leader-elect=false",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
            f"--service-account-private-key-file={self._key}",
            f"--controllers={','.join(controllers)}",
            *(authority if self._nodes else ()),
            "--kube-api-qps=200", "--kube-api-burst=400",
        )  # fmt: skip

    def _start_scheduler(self, stack: contextlib.ExitStack) -> None:
        self._start(
            stack, "kube-scheduler",
            f"--kubeconfig={self.kubeconfig}", "--leader-elect=false",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
        )  # fmt: skip

    def _start(self, stack: contextlib.ExitStack, program: str, *arguments: str) -> None:
        log = stack.enter_context((self._folder / f"{program}.log").open("wb"))
        process = stack.enter_context(
            subprocess.Popen([self._assets / program, *arguments], stdout=log, stderr=log)
        )
        stack.callback(process.terminate)

    def _kubeconfig(self, token: str) -> str:
        return f"""
            apiVersion: v1
            kind: Config
            clusters:
            - name: api
              cluster: {{server: "https://127.0.0.1:{self._port}", insecure-skip-tls-verify: true}}
            users: [{{name: user, user: {{token: {token}}}}}]
            contexts: [{{name: api, context: {{cluster: api, user: user}}}}]
            current-context: api
            """

    def _wait(self) -> None:
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}/readyz", headers={"Authorization": f"Bearer {_TOKEN}"}
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
