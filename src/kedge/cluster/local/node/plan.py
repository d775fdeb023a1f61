"""One run of one container, worked out: command, environment, mounts, limits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.node import shim
from kedge.cluster.local.node.covering import uncovered
from kedge.cluster.local.node.env import (
    ConfigError,
    expand,
    make_env,
    proxy_env,
    thread_env,
)
from kedge.cluster.local.node.host import Host, NoDrains
from kedge.cluster.local.node.images import Image
from kedge.cluster.local.node.processes import TERMINATION_LOG
from kedge.cluster.local.node.resources import cpu_limit, gpus_wanted
from kedge.cluster.local.node.templates import Imported
from kedge.cluster.local.node.volumes import Volumes, rewrite

DEFAULT_TERMINATION_PATH = "/dev/termination-log"

OOM_SCORE = 900
"""Pods are the kernel's first choice when the machine is out of memory."""


UNWEIGHTED_NICE = 5
"""Where control groups cannot share out the cores, Envoy and Kedge itself go before pods."""


@dataclass(frozen=True)
class Plan:
    """What the shim is asked to run.

    Attributes:
        imported: the template that could stand for the program; None where only exec will do.
    """

    argv: list[str]
    env: dict[str, str]
    workdir: str
    mounts: list[dict[str, Any]]
    no_new_privs: bool
    nice: int = 0
    imported: Imported | None = None

    def request(self) -> dict[str, Any]:
        """The part of a shim's `start` or `exec` request that is the same for both."""
        return {
            "argv": self.argv,
            "env": self.env,
            "workdir": self.workdir,
            "mounts": self.mounts,
            "no_new_privs": self.no_new_privs,
            "oom_score_adj": OOM_SCORE,
            "nice": self.nice,
        }


@dataclass(frozen=True)
class PodPlace:
    """Where a pod is on this machine.

    Attributes:
        seen: when the agent first saw it, on the monotonic clock.
        woken: when a request asked for it, likewise; None where none did.
    """

    dir: Path
    address: str
    volumes: Volumes
    seen: float = 0.0
    woken: float | None = None

    def container_dir(self, name: str) -> Path:
        return self.dir / "containers" / name

    def termination_log(self, name: str) -> Path:
        return self.container_dir(name) / "termination-log"

    @property
    def stage(self) -> Path:
        """An empty folder that a container's root may be built on."""
        return self.dir / "root"


async def make_plan(host: Host, pod: Object, container: Object, place: PodPlace) -> Plan:
    """Everything that a run needs.

    Raises:
        ImageMissing: nothing maps to the image.
        ConfigError: a ConfigMap, Secret, key, volume or GPU is missing.
    """
    image = host.images.resolve(container.get("image") or "")
    _make_folders(container, place)
    addressed = _with_address(pod, place.address, host.settings.address)
    fetch = host.fetcher(pod["metadata"].get("namespace", "default"))
    wanted = await make_env(container, addressed, fetch, host.allocatable)
    mounts = place.volumes.mounts(container, wanted)
    mounts += _termination_mount(container, place)
    if host.settings.hosts_file is not None and host.settings.hosts_file.exists():
        source = str(host.settings.hosts_file)
        mounts.append({"source": source, "target": "/etc/hosts", "readonly": False})
    mounts += uncovered(mounts, _needed(host, image))
    mounts.sort(key=lambda mount: str(mount["target"]).count("/"))
    base = {
        **host.settings.environ,
        **image.env,
        **thread_env(cpu_limit(container)),
        **proxy_env(host.settings.proxy_url, place.address),
        **_gpu_env(host, pod, container),
        **_pod_env(host, pod, container, place),
    }
    argv = _command(image, container, wanted)
    if not host.sandboxes.isolation.mounts:
        argv = [rewrite(word, mounts) for word in argv]
        wanted = {name: rewrite(value, mounts) for name, value in wanted.items()}
        mounts = []
    workdir = container.get("workingDir") or image.workdir
    return Plan(
        argv=argv,
        env=_joined(base, wanted),
        workdir=workdir or str(place.container_dir(container["name"])),
        mounts=mounts,
        no_new_privs=(container.get("securityContext") or {}).get("allowPrivilegeEscalation")
        is False,
        nice=0 if host.cgroups.cpu is not None else UNWEIGHTED_NICE,
        # Python looks for modules in the folder it is started in.
        imported=None if workdir else Imported.of(argv, image.interpreter, _image_env(host, image)),
    )


def _image_env(host: Host, image: Image) -> dict[str, str]:
    """What every container of an image has in its environment, whatever its pod."""
    preload = {"LD_PRELOAD": str(host.bind_library)} if host.bind_library is not None else {}
    return {**host.settings.environ, **image.env, **preload}


def _command(image: Image, container: Object, env: Mapping[str, str]) -> list[str]:
    argv = image.command(
        [expand(word, env) for word in container.get("command") or []],
        [expand(word, env) for word in container.get("args") or []],
    )
    if not argv:
        raise ConfigError(
            f"image {container.get('image')!r} is mapped to no command and the container has none.",
            fix="Give the container a `command`, or the image one in images.yaml.",
        )
    return argv


def _joined(base: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
    """What the pod asks for wins, but Kedge's own paths stay in front of a list."""
    env = {**base, **wanted}
    for name, separator in (("PYTHONPATH", os.pathsep), ("LD_PRELOAD", " ")):
        if name in base and name in wanted:
            env[name] = f"{base[name]}{separator}{wanted[name]}"
    return env


def _make_folders(container: Object, place: PodPlace) -> None:
    place.container_dir(container["name"]).mkdir(parents=True, exist_ok=True)
    place.stage.mkdir(exist_ok=True)
    place.termination_log(container["name"]).write_bytes(b"")


def _needed(host: Host, image: Image) -> Iterator[str]:
    """What must be there for a container to start at all."""
    settings = host.settings
    yield from map(str, (settings.data_dir, settings.runtime_dir, image.workdir))
    yield from image.env.get("PYTHONPATH", "").split(os.pathsep)
    if image.interpreter == sys.executable:
        yield from (sys.prefix, sys.base_prefix, *sys.path)
    else:
        yield os.path.dirname(os.path.dirname(image.interpreter))
    yield from (word for word in image.argv[:1] if os.path.isabs(word))


def _with_address(pod: Object, address: str, host_address: str) -> Object:
    status = {**(pod.get("status") or {}), "podIP": address, "hostIP": host_address}
    return {**pod, "status": status}


def _termination_mount(container: Object, place: PodPlace) -> list[dict[str, Any]]:
    """The default place is used where it exists: /dev is not worth covering for it."""
    target = container.get("terminationMessagePath") or DEFAULT_TERMINATION_PATH
    if target == DEFAULT_TERMINATION_PATH and not os.path.exists(target):
        return []
    source = place.termination_log(container["name"])
    return [{"source": str(source), "target": target, "readonly": False}]


def _gpu_env(host: Host, pod: Object, container: Object) -> dict[str, str]:
    if not len(host.gpus):
        return {}
    count = gpus_wanted(container)
    ids = host.gpus.take(pod["metadata"]["uid"], container["name"], count)
    if ids is None:
        raise ConfigError(
            f"{count} GPU(s) asked for, fewer are free on this machine.",
            fix="Stop a pod that has one, or ask for fewer.",
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(ids)}


def notice_name(pod: Object, container: Object) -> str:
    """What a container is called among those that tell when they are ready."""
    return f"{pod['metadata']['uid']}.{container['name']}"


def _pod_env(host: Host, pod: Object, container: Object, place: PodPlace) -> dict[str, str]:
    env = {
        "HOSTNAME": pod["metadata"]["name"],
        "KEDGE_POD_IP": place.address,
        "KEDGE_BIND_ADDRESS": place.address,
        TERMINATION_LOG: str(place.termination_log(container["name"])),
        shim.MARKER: container["name"],
        "KEDGE_READY_SOCKET": str(host.notices.path),
        "KEDGE_READY_NAME": notice_name(pod, container),
    }
    if not isinstance(host.drains, NoDrains):
        # Who is told to end has been let go of: what comes then has been on its way already.
        env["KEDGE_IDLE_SECONDS"] = "0.1"
    if host.bind_library is not None:
        env["LD_PRELOAD"] = str(host.bind_library)
    return env
