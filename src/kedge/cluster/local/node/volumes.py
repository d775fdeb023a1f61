"""A pod's volumes: each becomes a folder or file of the host, to be mounted by the shim.

Folders of the pod's own (emptyDir, ConfigMap, Secret, projected, downwardAPI) are under its
directory and live as long as it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from kedge.api.scheme import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import NotFound
from kedge.cluster.local.models import ModelCache, Unreadable
from kedge.cluster.local.node.env import ConfigError, Fetch, expand, field_value, resource_value
from kedge.cluster.local.node.tokens import Tokens
from kedge.lib.errors import KedgeError
from kedge.lib.quantity import parse_quantity

PATH_ANNOTATION = "serving.kedge.dev/path"
"""On a PersistentVolumeClaim: the folder of this machine that it stands for."""

_HOST_PATH_KINDS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a folder"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a folder"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


PINS_ANNOTATION = "serving.kedge.dev/model-pins"
"""On a pod: the volumes that hold its model, and the digest of what they held when its revision was
made; JSON."""
_SERVICE_LABEL = "serving.kserve.io/inferenceservice"


class VolumeError(KedgeError):
    """A volume cannot be had."""

    reason = "FailedMount"


class ModelChanged(VolumeError):
    """A volume holds other files than those that the pod's revision was made of."""

    reason = "ModelChanged"


@dataclass(frozen=True)
class Volume:
    """One volume, ready to be mounted.

    Attributes:
        path: where it is on the host.
        readonly: may not be written whatever a mount says.
        memory: is a tmpfs inside the pod; its size in bytes, 0 for no limit.
        pinned: is what its mounts show whatever their `subPath` says, and is not to be written.
    """

    path: Path
    readonly: bool = False
    memory: int | None = None
    pinned: bool = False


class Volumes:
    """The volumes of one pod.

    Args:
        volumes_dir: folders that stand for persistent volume claims; None where a claim is the
            volume that it is bound to.
        tokens: of service accounts; None where there are none, and projected volumes lack them.
    """

    def __init__(
        self,
        pod: Object,
        pod_dir: Path,
        volumes_dir: Path | None,
        cluster: Cluster,
        fetch: Fetch,
        allocatable: Mapping[str, Decimal],
        models: ModelCache,
        tokens: Tokens | None = None,
    ) -> None:
        self._pod = pod
        self._models = models
        self._pins = _read_pins(pod)
        self._dir = pod_dir / "volumes"
        self._volumes_dir = volumes_dir
        self._cluster = cluster
        self._fetch = fetch
        self._allocatable = allocatable
        self._tokens = tokens
        self._ready: dict[str, Volume] = {}

    async def prepare(self) -> None:
        """Make all volumes; safe to repeat.

        Raises:
            VolumeError: one cannot be had; the message names it.
        """
        for volume in self._pod["spec"].get("volumes") or []:
            name = volume["name"]
            try:
                self._ready[name] = await self._prepare_one(volume)
            except ModelChanged:
                raise
            except (ConfigError, VolumeError) as error:
                raise VolumeError(f"volume {name!r}: {error.message}", fix=error.fix) from error
            except OSError as error:
                raise VolumeError(f"volume {name!r}: {error}", fix=_disk_fix(error)) from error

    @property
    def refreshable(self) -> bool:
        """Whether some volume shows objects that may change while the pod runs."""
        kinds = {"configMap", "secret", "projected", "downwardAPI"}
        return any(kinds & set(volume) for volume in self._pod["spec"].get("volumes") or [])

    def memory_volumes(self) -> list[dict[str, Any]]:
        """What the shim mounts as tmpfs when the pod starts."""
        return [
            {"path": str(volume.path), "size": volume.memory}
            for volume in self._ready.values()
            if volume.memory is not None
        ]

    def mounts(self, container: Object, env: Mapping[str, str]) -> list[dict[str, Any]]:
        """What the shim mounts for a container, in the order of depth.

        Raises:
            ConfigError: a mount names no volume, or leads out of its volume.
        """
        mounts = [self._mount(wish, env) for wish in container.get("volumeMounts") or []]
        return sorted(mounts, key=lambda mount: str(mount["target"]).count("/"))

    def _mount(self, wish: Object, env: Mapping[str, str]) -> dict[str, Any]:
        volume = self._ready.get(wish["name"])
        target = os.path.normpath("/" + wish["mountPath"].lstrip("/"))
        if volume is None:
            raise ConfigError(
                f"volumeMount {target}: the pod has no volume {wish['name']!r}.",
                fix="Add it to `volumes`, or correct the name.",
            )
        sub = wish.get("subPath") or expand(wish.get("subPathExpr") or "", env)
        if os.path.isabs(sub) or ".." in Path(sub).parts:
            raise ConfigError(f"subPath {sub!r} leads out of the volume.", fix="Use a path inside.")
        readonly = bool(wish.get("readOnly")) or volume.readonly
        if volume.pinned:
            return {"source": str(volume.path), "target": target, "readonly": True}
        source = volume.path / sub
        if sub and volume.memory is None and not source.exists() and not readonly:
            source.mkdir(parents=True)
        return {"source": str(source), "target": target, "readonly": readonly}

    async def _prepare_one(self, volume: Object) -> Volume:
        pin = self._pins.get(volume["name"])
        if pin is not None:
            return await self._prepare_pinned(volume, pin)
        path = self._dir / volume["name"]
        for kind in _MAKERS:
            if kind in volume:
                made: Volume = await _MAKERS[kind](self, path, volume[kind] or {})
                return made
        kinds = ", ".join(key for key in volume if key != "name") or "nothing"
        raise VolumeError(
            f"its source ({kinds}) is not one that this node can give.",
            fix=f"Use one of {', '.join(_MAKERS)}.",
        )

    async def _prepare_pinned(self, volume: Object, pin: Mapping[str, str]) -> Volume:
        """The bytes that the revision was made of, wherever they are."""
        host = volume.get("hostPath") or {}
        if host:
            source = Path(host["path"])
        else:
            claim = await self._claim(self._dir, volume["persistentVolumeClaim"])
            source = claim.path
        source /= pin.get("subPath") or ""
        single = host.get("type") == "File"
        try:
            found = await asyncio.to_thread(self._models.find, pin["digest"], source, single=single)
        except Unreadable as error:
            raise VolumeError(str(error), fix=f"Put the model's files at {source}.") from error
        if found is None:
            raise await self._changed(source, pin["digest"])
        return Volume(found, readonly=True, pinned=True)

    async def _changed(self, source: Path, wanted: str) -> ModelChanged:
        there = await asyncio.to_thread(self._models.digest, source)
        service = (self._pod["metadata"].get("labels") or {}).get(_SERVICE_LABEL, "NAME")
        return ModelChanged(
            f"{source} holds other files than this revision was made of: {there} now, {wanted}"
            " then.",
            fix="Put those files back, or make a revision of what is there:"
            f" kedge rollout restart {service}",
        )

    async def _empty_dir(self, path: Path, source: Object) -> Volume:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        if source.get("medium") == "Memory":
            return Volume(path, memory=int(parse_quantity(source.get("sizeLimit") or 0)))
        return Volume(path)

    async def _config_map(self, path: Path, source: Object) -> Volume:
        files = await self._object_files("ConfigMap", source.get("name") or "", source)
        return _write_all(path, files, source.get("defaultMode"))

    async def _secret(self, path: Path, source: Object) -> Volume:
        files = await self._object_files("Secret", source.get("secretName") or "", source)
        return _write_all(path, files, source.get("defaultMode"))

    async def _downward(self, path: Path, source: Object) -> Volume:
        return _write_all(path, self._downward_files(source), source.get("defaultMode"))

    async def _projected(self, path: Path, source: Object) -> Volume:
        files: dict[str, tuple[bytes, int | None]] = {}
        for part in source.get("sources") or []:
            if wish := part.get("configMap"):
                files |= await self._object_files("ConfigMap", wish["name"], wish)
            elif wish := part.get("secret"):
                files |= await self._object_files("Secret", wish["name"], wish)
            elif wish := part.get("downwardAPI"):
                files |= self._downward_files(wish)
            elif self._tokens is not None and (wish := part.get("serviceAccountToken")):
                files[wish["path"]] = (await self._tokens.get(self._pod, wish), None)
        return _write_all(path, files, source.get("defaultMode"))

    async def _object_files(
        self, kind: Any, name: str, wish: Object
    ) -> dict[str, tuple[bytes, int | None]]:
        data = await self._fetch(kind, name)
        if data is None:
            if wish.get("optional"):
                return {}
            raise VolumeError(
                f"{kind.lower()} {name!r} not found.", fix=f"Create the {kind} {name}."
            )
        if not wish.get("items"):
            return {key: (value, None) for key, value in data.items()}
        files = {}
        for item in wish["items"]:
            if item["key"] in data:
                files[item["path"]] = (data[item["key"]], item.get("mode"))
            elif not wish.get("optional"):
                raise VolumeError(
                    f"{kind} {name} has no key {item['key']!r}.",
                    fix=f"Add the key (it has: {', '.join(sorted(data)) or 'nothing'}).",
                )
        return files

    def _downward_files(self, source: Object) -> dict[str, tuple[bytes, int | None]]:
        files = {}
        for item in source.get("items") or []:
            if reference := item.get("fieldRef"):
                text = field_value(self._pod, reference["fieldPath"])
            else:
                reference = item["resourceFieldRef"]
                text = resource_value(self._pod, {}, reference, self._allocatable)
            files[item["path"]] = (text.encode(), item.get("mode"))
        return files

    async def _claim(self, _path: Path, source: Object) -> Volume:
        namespace, name = self._pod["metadata"].get("namespace", "default"), source["claimName"]
        try:
            claim = await self._cluster.get(PERSISTENT_VOLUME_CLAIM, name, namespace)
        except NotFound:
            raise VolumeError(
                f"persistentvolumeclaim {name!r} not found.",
                fix=f"Create the PersistentVolumeClaim {name} in namespace {namespace}.",
            ) from None
        readonly = bool(source.get("readOnly"))
        elsewhere = (claim["metadata"].get("annotations") or {}).get(PATH_ANNOTATION)
        if self._volumes_dir is None and not elsewhere:
            bound = await self._bound(claim)
            return replace(bound, readonly=readonly or bound.readonly)
        path = Path(elsewhere) if elsewhere else self._volumes_dir / namespace / name
        path.mkdir(parents=True, exist_ok=True)
        return Volume(path, readonly=readonly)

    async def _bound(self, claim: Object) -> Volume:
        """The folder of this machine that a claim's volume is."""
        name = (claim.get("spec") or {}).get("volumeName")
        if not name:
            raise VolumeError(
                f"persistentvolumeclaim {claim['metadata']['name']!r} is bound to no volume.",
                fix="Make a PersistentVolume of hostPath or local for it.",
            )
        spec = (await self._cluster.get(PERSISTENT_VOLUME, name))["spec"]
        place = spec.get("hostPath") or spec.get("local")
        if not place:
            raise VolumeError(
                f"persistentvolume {name} is not of a kind that this node can give.",
                fix="Use one of hostPath or local.",
            )
        return await self._host_path(self._dir, place)

    async def _host_path(self, _path: Path, source: Object) -> Volume:
        path, kind = Path(source["path"]), source.get("type") or ""
        if kind == "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            path.touch(exist_ok=True)
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise VolumeError(
                f"hostPath {path} does not exist on this machine.",
                fix=f"Put the files at {path}, or correct the path.",
            ) from None
        wanted = _HOST_PATH_KINDS.get(kind)
        if wanted is not None and not wanted[0](mode):
            raise VolumeError(
                f"hostPath {path} is not {wanted[1]}.", fix="Correct the path or its `type`."
            )
        return Volume(path)


_MAKERS: dict[str, Callable[[Volumes, Path, Object], Any]] = {
    "emptyDir": Volumes._empty_dir,
    "configMap": Volumes._config_map,
    "secret": Volumes._secret,
    "persistentVolumeClaim": Volumes._claim,
    "hostPath": Volumes._host_path,
    "projected": Volumes._projected,
    "downwardAPI": Volumes._downward,
}


def _read_pins(pod: Object) -> dict[str, dict[str, str]]:
    text = (pod["metadata"].get("annotations") or {}).get(PINS_ANNOTATION)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write_all(path: Path, files: Mapping[str, tuple[bytes, int | None]], mode: Any) -> Volume:
    """Make a folder hold exactly these files; each changes at once or not at all."""
    path.mkdir(parents=True, exist_ok=True)
    for name, (content, own_mode) in files.items():
        place = path / name
        if ".." in Path(name).parts or os.path.isabs(name):
            raise VolumeError(f"path {name!r} leads out of the volume.", fix="Use a path inside.")
        with contextlib.suppress(OSError):
            if place.read_bytes() == content:
                continue
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(place.name + ".new~")
        draft.write_bytes(content)
        draft.chmod(own_mode if own_mode is not None else mode if mode is not None else 0o644)
        draft.replace(place)
    for place in path.rglob("*"):
        if place.is_file() and str(place.relative_to(path)) not in files:
            place.unlink()
    return Volume(path, readonly=True)


def rewrite(text: str, mounts: list[dict[str, Any]]) -> str:
    """Without a mount namespace: name the host's folders where a mount path is named."""
    for mount in sorted(mounts, key=lambda m: -len(m["target"])):
        pattern = rf"(?<![\w.\-/]){re.escape(mount['target'])}(?![\w.\-])"
        text = re.sub(pattern, mount["source"].replace("\\", r"\\"), text)
    return text


def _disk_fix(error: OSError) -> str:
    if error.errno == 28:
        return "The disk is full: free space there; the pod is tried again by itself."
    return ""
