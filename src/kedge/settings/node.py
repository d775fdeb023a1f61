"""The node agent's settings: which image name runs which command, and what the machine has."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from kedge.lib.backoff import Backoff
from kedge.lib.errors import KedgeError


class ImagesError(KedgeError):
    """The image file cannot be understood."""

    reason = "InvalidImages"


@dataclass(frozen=True)
class ImageRule:
    """What stands in for an image where there is no container engine.

    Attributes:
        pattern: shell-style pattern of the image without registry host, tag and digest
            (`kserve/sklearnserver*`).
        argv: the image's entrypoint; a first word `python` is Kedge's own interpreter. Empty when
            the container must bring a command.
        env: environment the image would bring.
        workdir: working directory the image would bring; empty for the pod's own folder. Python
            finds modules there.
        python: an interpreter, or the folder of a virtual environment, that stands for `python`;
            empty for Kedge's own.
    """

    pattern: str
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    python: str = ""

    def matches(self, image: str) -> bool:
        return any(fnmatch.fnmatchcase(name, self.pattern) for name in image_names(image))


def _serve(runtime: str) -> tuple[str, ...]:
    return ("python", "-m", "kedge", "serve", runtime)


DEFAULT_IMAGES: tuple[ImageRule, ...] = (
    ImageRule("kserve/sklearnserver*", _serve("sklearn")),
    ImageRule("kedge/sklearnserver*", _serve("sklearn")),
    ImageRule("kserve/xgbserver*", _serve("xgboost")),
    ImageRule("kedge/xgbserver*", _serve("xgboost")),
    ImageRule("kserve/lgbserver*", _serve("lightgbm")),
    ImageRule("kedge/lgbserver*", _serve("lightgbm")),
    ImageRule("kserve/predictiveserver*", _serve("predictive")),
    ImageRule("kedge/onnxserver*", _serve("onnx")),
    ImageRule("kedge/pytorchserver*", _serve("pytorch")),
    ImageRule("kedge/catboostserver*", _serve("catboost")),
    ImageRule("kedge/mlflowserver*", _serve("mlflow")),
    ImageRule("kserve/huggingfaceserver*", _serve("huggingface")),
    ImageRule("kedge/huggingfaceserver*", _serve("huggingface")),
    ImageRule("kedge/tensorflowserver*", _serve("tensorflow")),
    ImageRule("kserve/paddleserver*", _serve("paddle")),
    ImageRule("kedge/paddleserver*", _serve("paddle")),
    ImageRule("kserve/pmmlserver*", _serve("pmml")),
    ImageRule("kedge/pmmlserver*", _serve("pmml")),
    # Before kedge/python*, which is the bare interpreter.
    ImageRule("kedge/pythonserver*", _serve("python")),
    ImageRule("kserve/storage-initializer*", ("python", "-m", "kedge.storage")),
    ImageRule("kedge/storage-initializer*", ("python", "-m", "kedge.storage")),
    ImageRule("kedge/python*", ("python",)),
    # What `kedge install` brings.
    ImageRule("kedge/controller*", ("python", "-m", "kedge")),
    ImageRule("kedge/gateway*", ("python", "-m", "kedge")),
    ImageRule("kedge/envoy*", ("envoy",)),
)


@dataclass(frozen=True)
class Capacity:
    """What pods on this node may share.

    Attributes:
        cpu: cores.
        memory: bytes.
        gpus: the ids that `CUDA_VISIBLE_DEVICES` understands, one `nvidia.com/gpu` each.
        pods: most pods at once.
        disk: bytes of what pods write that is not kept; 0 where that is not told.
    """

    cpu: float
    memory: int
    gpus: tuple[str, ...] = ()
    pods: int = 1000
    disk: int = 0

    @classmethod
    def of_this_machine(cls) -> Capacity:
        """Cores and memory as the kernel tells them; GPUs by their device files."""
        pages, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
        return cls(
            cpu=float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 1.0,
            memory=pages * page_size,
            gpus=tuple(device.name.removeprefix("nvidia") for device in devices),
        )


_INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


def _inherited_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


@dataclass(frozen=True)
class NodeSettings:
    """One node agent.

    Attributes:
        name: the Node object's name; pods with this `spec.nodeName` run here.
        data_dir: parent of the pods' folders.
        runtime_dir: where the pods' control sockets are.
        capacity: what the Node object offers.
        address: this machine's own, `status.hostIP` of its pods.
        pod_network: of the pods' addresses, as `198.18.1.0/24`; empty for some of 127/8.
        port: where an API server asks for the logs of pods, as it asks a kubelet; 0 for nowhere.
        labels: of the Node object, besides those that every node has.
        taints: of the Node object when it is made, as in its spec.
        leased: keep the Node's Lease, as Kubernetes' node controller wants it.
        bound_claims: a persistent volume claim is the volume that it is bound to; else a folder
            of `volumes_dir`.
        images: image rules in order, the first match wins.
        python: the interpreter that stands for `python` in a rule.
        proxy_url: the gateway's pod-facing listener, `http_proxy` of every container; empty for
            none.
        cluster_domain: domain of in-cluster names.
        hosts_file: what pods see as /etc/hosts; None for the machine's own.
        log_limit_bytes: a container's log is rotated at this size.
        log_files: rotated log files kept per container.
        drain_seconds: longest wait for the gateway to stop sending to a pod that ends.
        namespaces: `auto` takes the most isolation the kernel grants, `user` goes through a user
            namespace even as root, `none` does without (mount paths are then rewritten).
        restart_backoff: waits between the restarts of a container.
        restart_reset: a container that ran this long, in seconds, starts again without a wait.
        templates: model servers kept warm to fork pods from, one per runtime; 0 for none.
        template_idle_seconds: one that no pod was forked from for so long is let go.
        environ: what every container gets of Kedge's own environment.
    """

    name: str
    data_dir: Path
    runtime_dir: Path
    capacity: Capacity
    address: str = "127.0.0.1"
    pod_network: str = ""
    port: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    leased: bool = False
    bound_claims: bool = False
    images: tuple[ImageRule, ...] = DEFAULT_IMAGES
    python: str = sys.executable
    proxy_url: str = ""
    cluster_domain: str = "cluster.local"
    hosts_file: Path | None = None
    log_limit_bytes: int = 10 * 1024 * 1024
    log_files: int = 3
    drain_seconds: float = 5.0
    namespaces: Literal["auto", "user", "none"] = "auto"
    restart_backoff: Backoff = field(default_factory=lambda: Backoff(initial=1.0, limit=60.0))
    restart_reset: float = 600.0
    templates: int = 4
    template_idle_seconds: float = 24 * 3600.0
    environ: Mapping[str, str] = field(default_factory=_inherited_environment)

    @property
    def pods_dir(self) -> Path:
        return self.data_dir / "pods"

    @property
    def models_dir(self) -> Path:
        """Copies of the models that revisions are pinned to."""
        return self.data_dir / "models"

    @property
    def volumes_dir(self) -> Path:
        """Folders that stand for persistent volume claims, `{namespace}/{claim}`."""
        return self.data_dir / "volumes"

    @property
    def images_file(self) -> Path:
        """The user's own image rules."""
        return self.data_dir / "images.yaml"

    def command_of(self, image: str) -> ImageRule | None:
        """The first rule that the image matches; None when nothing maps to it."""
        return next((rule for rule in self.images if rule.matches(image)), None)


def image_names(image: str) -> tuple[str, ...]:
    """The forms of an image name that a pattern may match, from full to bare.

    `docker.io/kserve/sklearnserver:v1` is also `docker.io/kserve/sklearnserver`,
    `kserve/sklearnserver:v1` and `kserve/sklearnserver`.
    """
    host, slash, rest = image.partition("/")
    is_host = bool(slash) and ("." in host or ":" in host or host == "localhost")
    short = rest if is_host else image
    return tuple(dict.fromkeys((image, _untagged(image), short, _untagged(short))))


def _untagged(image: str) -> str:
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def parse_images(text: str, source: str = "images.yaml") -> tuple[ImageRule, ...]:
    """The user's own rules, to be put before `DEFAULT_IMAGES`.

    ::

        images:
          - pattern: acme/churn*
            command: [python, -m, acme.serve]
            env: {ACME_MODE: local}
            workdir: /srv/acme
            python: /srv/acme/.venv

    `command` may be left out where `python` or `workdir` is given and containers bring their own.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ImagesError(
            f"{source} is not YAML: {error}", fix="Correct the YAML at that line."
        ) from error
    entries = data.get("images") if isinstance(data, dict) else data if data else []
    if not isinstance(entries, list):
        raise ImagesError(f"{source}: `images` is not a list.", fix=_EXAMPLE)
    return tuple(_rule(entry, f"{source}: images[{i}]") for i, entry in enumerate(entries))


_EXAMPLE = "Write `images: [{pattern: 'acme/churn*', command: [python, -m, acme.serve]}]`."


def _rule(entry: Any, where: str) -> ImageRule:
    if not isinstance(entry, dict):
        raise ImagesError(f"{where} is not a mapping.", fix=_EXAMPLE)
    unknown = sorted(set(entry) - {"pattern", "command", "env", "workdir", "python"})
    if unknown:
        raise ImagesError(f"{where} has an unknown key `{unknown[0]}`.", fix=_EXAMPLE)
    pattern, command, env = entry.get("pattern"), entry.get("command"), entry.get("env") or {}
    if not isinstance(pattern, str) or not pattern:
        raise ImagesError(f"{where} has no `pattern`.", fix=_EXAMPLE)
    elsewhere = bool(entry.get("python") or entry.get("workdir"))
    command = [] if command is None and elsewhere else command
    if not isinstance(command, list) or not (command or elsewhere):
        raise ImagesError(f"{where} has no `command` list.", fix=_EXAMPLE)
    if not isinstance(env, dict):
        raise ImagesError(f"{where}: `env` is not a mapping of names to values.", fix=_EXAMPLE)
    return ImageRule(
        pattern=pattern,
        argv=tuple(str(word) for word in command),
        env={str(name): str(value) for name, value in env.items()},
        workdir=str(entry.get("workdir") or ""),
        python=str(entry.get("python") or ""),
    )
