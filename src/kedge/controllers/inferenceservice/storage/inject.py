"""Storage into a pod: from "where the model is" to volumes, mounts and init containers."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.errors import InvalidStorage
from kedge.controllers.inferenceservice.merge import (
    Tree,
    add_env_if_absent,
    find_container,
    get_env,
    merge,
    set_env,
)
from kedge.controllers.inferenceservice.names import (
    MODEL_PATH,
    SERVER_CONTAINER,
    STORAGE_INITIALIZER,
    STORAGE_INITIALIZER_UID,
    STORAGE_READONLY,
    TRANSFORMER_CONTAINER,
    WORKER_CONTAINER,
)
from kedge.controllers.inferenceservice.storage import credentials, oci
from kedge.controllers.inferenceservice.storage.credentials import Access
from kedge.controllers.inferenceservice.storage.sources import (
    Source,
    check_accepted,
    supports,
    usable,
    volume_name,
)
from kedge.controllers.inferenceservice.surroundings import Surroundings
from kedge.settings.serving import ServingConfig, StorageInitializer

_LOCATION = "kserve-provision-location"
_PVC_VOLUME = "kserve-pvc-source"
_CA_VOLUME = "cabundle-cert"
GLOBAL_CA_BUNDLE = "global-ca-bundle"
_HUB_ENV = (
    {"name": "HF_HUB_ENABLE_HF_TRANSFER", "value": "1"},
    {"name": "HF_XET_HIGH_PERFORMANCE", "value": "1"},
    {"name": "HF_XET_NUM_CONCURRENT_RANGE_GETS", "value": "8"},
)


@dataclass(frozen=True)
class StorageRequest:
    """What a component wants to find in its pod.

    Attributes:
        uri: the one model location; empty when there is none or `storage` makes it up.
        storage: the model's `storage`, by a secret.
        sources: `storageUris`.
        container_name: `storageContainerName`.
        confidential: the model's `confidential`.
        annotations: the component's.
    """

    uri: str = ""
    storage: Mapping[str, Any] | None = None
    sources: tuple[Source, ...] = ()
    container_name: str = ""
    confidential: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        return bool(self.uri or self.storage or self.sources)


def add_storage(
    pod: Tree, request: StorageRequest, around: Surroundings, config: ServingConfig
) -> None:
    """Write storage into `pod`, a pod spec that is ours to change.

    Raises:
        InvalidStorage: the location cannot be used.
        MissingObject: a secret that is named does not exist.
    """
    if find_container(pod.get("initContainers") or (), STORAGE_INITIALIZER):
        return
    _Injection(pod, request, around, config).run()


class _Injection:
    """One pod on its way to its storage."""

    def __init__(
        self, pod: Tree, request: StorageRequest, around: Surroundings, config: ServingConfig
    ) -> None:
        self.pod = pod
        self.request = request
        self.around = around
        self.config = config
        self.settings: StorageInitializer = config.storage_initializer
        self.read_only = request.annotations.get(STORAGE_READONLY) != "false"
        self.containers = _targets(pod)

    def run(self) -> None:
        if self.request.sources:
            if self.request.uri:
                raise InvalidStorage(
                    "Both a storage URI and `storageUris` are given.",
                    fix="Keep one of them.",
                )
            self._add_many(list(self.request.sources))
            return
        access = self._access_by_spec()
        uri = self._single_uri(access)
        if uri:
            check_accepted(uri, self.around.storage_containers)
            self._add_single(Source(uri), access)

    # -- one source ------------------------------------------------------------------------

    def _access_by_spec(self) -> Access | None:
        if self.request.storage is None:
            return None
        return credentials.from_storage_spec(
            self.request.storage, self.request.annotations, self.around, self.config.credentials
        )

    def _single_uri(self, access: Access | None) -> str:
        if access is None or not (self.request.storage or {}).get("path"):
            return self.request.uri
        if self.request.uri:
            raise InvalidStorage(
                "Both `storageUri` and `storage.path` are given.", fix="Keep only one of them."
            )
        return access.uri

    def _add_single(self, source: Source, access: Access | None) -> None:
        mode = oci.mode_of(source, self.settings) if source.is_oci else ""
        if source.is_pvc:
            self._add_claim(source, _PVC_VOLUME)
        elif mode in ("modelcar", "native"):
            self._add_image(source, mode, "")
        elif self._in_place(source):
            self._add_in_place(source, _LOCATION)
        else:
            volume = _LOCATION
            if mode == "fetch":
                source = replace(source, uri=f"oci://{oci.reference(source)}")
                volume = volume_name(source.mount_path)
            self._add_volume(volume, source.mount_path, {"emptyDir": {}})
            init = self._init_container(volume, source.mount_path, [source], access)
            if mode == "fetch":
                oci.add_fetch_access(self.pod, init, self.settings)
        self._point_to(source.mount_path)

    def _point_to(self, path: str) -> None:
        if get_env(self.containers[0], "STORAGE_URI"):
            set_env(self.containers[0], "STORAGE_URI", path)

    # -- several sources -------------------------------------------------------------------

    def _add_many(self, sources: list[Source]) -> None:
        for source in sources:
            check_accepted(source.uri, self.around.storage_containers)
        images = [source for source in sources if source.is_oci]
        modes = [oci.mode_of(source, self.settings) for source in images]
        oci.check(images, modes)
        fetched = [s for s, m in zip(images, modes, strict=True) if m in ("fetch", "")]
        place = 0
        for source, mode in zip(images, modes, strict=True):
            if mode in ("modelcar", "native"):
                self._add_image(source, mode, f"-{place}" if place else "")
                place += 1
        downloads = []
        for source in sources:
            if source.is_pvc:
                self._add_claim(source, volume_name(source.mount_path))
            elif not source.is_oci and self._in_place(source):
                self._add_in_place(source, volume_name(source.mount_path))
            elif not source.is_oci:
                downloads.append(source)
        if fetched and downloads:
            raise InvalidStorage(
                "`storageUris` mixes fetched OCI models with other downloads.",
                fix="Use oci+native:// for the images, or give all entries as OCI.",
            )
        self._add_downloads([*downloads, *fetched], fetch=bool(fetched))

    def _add_downloads(self, sources: list[Source], *, fetch: bool) -> None:
        if not sources:
            return
        folder = posixpath.commonpath([source.mount_path for source in sources])
        if folder == "/":
            raise InvalidStorage(
                "The mount paths of `storageUris` have no folder in common:"
                f" {', '.join(source.mount_path for source in sources)}.",
                fix="Put them below one folder, for example /mnt/models/a and /mnt/models/b.",
            )
        name = volume_name(folder)
        self._add_volume(name, folder, {"emptyDir": {}})
        plain = [replace(s, uri=f"oci://{oci.reference(s)}") if s.is_oci else s for s in sources]
        init = self._init_container(name, folder, plain, self._access_by_spec())
        if fetch:
            oci.add_fetch_access(self.pod, init, self.settings)

    # -- volumes ---------------------------------------------------------------------------

    def _in_place(self, source: Source) -> bool:
        local = source.local_path
        return (
            local is not None and self.settings.local_paths == "inPlace" and not source.is_archive
        )

    def _add_in_place(self, source: Source, volume: str) -> None:
        """A folder, or one file, of this machine at the mount path, not copied."""
        path = source.local_path or ""
        if not path.startswith("/"):
            raise InvalidStorage(
                f"The storage path `{source.uri}` is not absolute.",
                fix="Write the whole path, for example file:///home/me/models/iris.",
            )
        kind = "File" if source.is_file else "Directory"
        mount_path = source.mount_path
        if source.is_file:
            mount_path = posixpath.join(mount_path, posixpath.basename(path))
        self._add_volume(
            volume, mount_path, {"hostPath": {"path": path.rstrip("/") or "/", "type": kind}}
        )

    def _add_claim(self, source: Source, volume: str) -> None:
        claim, path = source.claim()
        self._add_volume(
            volume,
            source.mount_path,
            {"persistentVolumeClaim": {"claimName": claim, "readOnly": False}},
            sub_path=path,
        )

    def _add_image(self, source: Source, mode: str, suffix: str) -> None:
        if mode == "native":
            oci.add_native(self.pod, self.containers, source, suffix)
        else:
            oci.add_modelcar(self.pod, self.containers, source, suffix, self.settings)

    def _add_volume(self, name: str, path: str, volume: Tree, *, sub_path: str = "") -> None:
        volumes = self.pod.setdefault("volumes", [])
        if all(found.get("name") != name for found in volumes):
            volumes.append({"name": name, **volume})
        mount: Tree = {"name": name, "mountPath": path, "readOnly": self.read_only}
        if sub_path:
            mount["subPath"] = sub_path
        for container in self.containers:
            mounts = container.setdefault("volumeMounts", [])
            if all(found.get("name") != name for found in mounts):
                mounts.append(dict(mount))

    # -- the init container ----------------------------------------------------------------

    def _init_container(
        self, volume: str, folder: str, sources: Sequence[Source], access: Access | None
    ) -> Tree:
        settings = self.settings
        init: Tree = {
            "name": STORAGE_INITIALIZER,
            "image": settings.image,
            "args": [text for source in sources for text in (source.uri, source.mount_path)],
            "resources": {
                "limits": {"cpu": settings.cpu_limit, "memory": settings.memory_limit},
                "requests": {"cpu": settings.cpu_request, "memory": settings.memory_request},
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": volume, "mountPath": folder}],
        }
        self._add_access(init, access or self._access_by_account())
        bundle = self._ca_bundle(init)
        overlay = self._overlay(sources)
        if overlay is not None:
            # Flags of the overlay come first: what to fetch must not get lost.
            arguments = [*(overlay.get("args") or ()), *init["args"]]
            init = {**merge(init, overlay), "args": arguments}
        if bundle:
            self._mount_ca_bundle(init, *bundle)
        add_env_if_absent(init, _HUB_ENV)
        self._add_confidential(init)
        uid = self.request.annotations.get(STORAGE_INITIALIZER_UID, "")
        if uid.isdigit():
            context = {**(init.get("securityContext") or {}), "runAsUser": int(uid)}
            if int(uid) == 0:
                context["runAsNonRoot"] = False
            init["securityContext"] = context
        self.pod.setdefault("initContainers", []).append(init)
        return init

    def _access_by_account(self) -> Access:
        return credentials.from_service_account(
            str(self.pod.get("serviceAccountName") or self.pod.get("serviceAccount") or "default"),
            self.request.annotations,
            self.around,
            self.config.credentials,
        )

    def _add_access(self, init: Tree, access: Access) -> None:
        if access.env:
            init.setdefault("env", []).extend(copy.deepcopy(access.env))
        init["volumeMounts"].extend(access.mounts)
        volumes = self.pod.setdefault("volumes", [])
        present = {volume.get("name") for volume in volumes}
        volumes.extend(volume for volume in access.volumes if volume["name"] not in present)

    def _ca_bundle(self, init: Tree) -> tuple[str, str] | None:
        """The ConfigMap with certificate authorities and where it goes, when one is needed."""
        asked = get_env(init, credentials.CA_BUNDLE_CONFIG_MAP)
        if not asked and not self.settings.ca_bundle_config_map_name:
            return None
        folder = posixpath.dirname(get_env(init, "AWS_CA_BUNDLE"))
        default = self.settings.ca_bundle_volume_mount_path or "/etc/ssl/custom-certs"
        configured = self.settings.ca_bundle_config_map_name
        if self.around.namespace != self.around.home:
            configured = GLOBAL_CA_BUNDLE
        return asked or configured or GLOBAL_CA_BUNDLE, folder or default

    def _mount_ca_bundle(self, init: Tree, config_map: str, folder: str) -> None:
        set_env(init, "CA_BUNDLE_CONFIGMAP_NAME", config_map)
        set_env(init, "CA_BUNDLE_VOLUME_MOUNT_POINT", folder)
        self.pod["volumes"].append({"name": _CA_VOLUME, "configMap": {"name": config_map}})
        init["volumeMounts"].append({"name": _CA_VOLUME, "mountPath": folder, "readOnly": True})

    def _add_confidential(self, init: Tree) -> None:
        if self.request.confidential.get("enabled"):
            set_env(init, "CONFIDENTIAL_ENABLED", "true")
            resource = str(self.request.confidential.get("resourceId") or "")
            set_env(init, "CONFIDENTIAL_RESOURCE_ID", resource)

    def _overlay(self, sources: Sequence[Source]) -> Tree | None:
        """The container of the ClusterStorageContainer that serves these sources."""
        uri, several = sources[0].uri, bool(self.request.sources)
        containers = self.around.storage_containers
        if self.request.container_name:
            return _container_of(_named(self.request.container_name, uri, containers))
        for found in usable(containers):
            if supports(found, uri) and (
                not several or found["spec"].get("supportsMultiModelDownload")
            ):
                return _container_of(found)
        return None


def _named(name: str, uri: str, containers: Sequence[Object]) -> Object:
    found = next((c for c in containers if c["metadata"]["name"] == name), None)
    problem = ""
    if found is None:
        problem = "does not exist"
    elif found not in usable(containers):
        problem = "is disabled or not for init containers"
    elif not supports(found, uri):
        problem = f"does not support `{uri}`"
    if found is None or problem:
        raise InvalidStorage(
            f"The ClusterStorageContainer `{name}` {problem}.",
            fix="Correct `spec.predictor.storageContainerName`, or remove it to have one chosen.",
        )
    return found


def _container_of(storage_container: Object) -> Tree:
    container: Tree = storage_container["spec"].get("container") or {}
    return container


def _targets(pod: Tree) -> list[Tree]:
    """The containers that see the model: the server first, a transformer beside it second."""
    containers = pod.get("containers") or []
    server = find_container(containers, SERVER_CONTAINER) or find_container(
        containers, WORKER_CONTAINER
    )
    if server is None:
        raise InvalidStorage(
            f"No container `{SERVER_CONTAINER}` is there to give the model to.",
            fix=f"Name the server's container `{SERVER_CONTAINER}`.",
        )
    transformer = find_container(containers, TRANSFORMER_CONTAINER)
    return [server] if transformer is None else [server, transformer]


__all__ = ["GLOBAL_CA_BUNDLE", "MODEL_PATH", "StorageRequest", "add_storage"]
