"""Models packed as container images: a sidecar, an image volume, or a fetch at start."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from kedge.controllers.inferenceservice.errors import InvalidStorage
from kedge.controllers.inferenceservice.merge import Tree, set_env
from kedge.controllers.inferenceservice.storage.sources import Source, volume_name
from kedge.settings.serving import StorageInitializer

MOST_SOURCES = 10
FETCH_AUTH_FOLDER = "/mnt/oci-fetch-auth"
_FETCH_AUTH_VOLUME = "kserve-oci-fetch-docker-config"
_MODELCAR_VOLUME = "kserve-provision-location"
_INSTALL = "ln -sf /proc/$$$$/root/models {path} && sleep infinity"
_CHECK = (
    "echo 'Prefetched modelcar image' && test -d /models && test -n \"$(ls -A /models)\""
    " && echo 'Model files found in /models'"
    " || { echo 'No model files in /models of this image'; exit 1; }"
)


def mode_of(source: Source, settings: StorageInitializer) -> str:
    """`modelcar`, `native`, `fetch`, or empty for a bare `oci://` where no mode is set."""
    scheme = source.uri.partition("://")[0]
    explicit = scheme.partition("+")[2]
    if explicit:
        return explicit
    if settings.oci_model_mode:
        return settings.oci_model_mode
    if settings.enable_modelcar or settings.enable_oci_model_support:
        return "modelcar"
    return ""


def reference(source: Source) -> str:
    return source.uri.partition("://")[2]


def check(sources: Sequence[Source], modes: Sequence[str]) -> None:
    """Raise `InvalidStorage` for sources that cannot be in one pod together."""
    if len(sources) > MOST_SOURCES:
        raise InvalidStorage(
            f"{len(sources)} OCI sources are more than {MOST_SOURCES}.",
            fix=f"Use at most {MOST_SOURCES} OCI entries in `storageUris`.",
        )
    for mode, place, what in (
        ("modelcar", posixpath.dirname, "parent folders"),
        ("native", posixpath.normpath, "mount paths"),
    ):
        places = [place(s.mount_path) for s, m in zip(sources, modes, strict=True) if m == mode]
        if len(set(places)) != len(places):
            raise InvalidStorage(
                f"Several OCI sources in {mode} mode share {what}: {', '.join(sorted(places))}.",
                fix=f"Give each entry of `storageUris` a `mountPath` with its own {what[:-1]}.",
            )


def add_native(pod: Tree, containers: Sequence[Tree], source: Source, suffix: str) -> None:
    name = volume_name(source.mount_path) + suffix
    _add(
        pod, "volumes",
        {"name": name, "image": {"reference": reference(source), "pullPolicy": "IfNotPresent"}},
    )  # fmt: skip
    mount = {
        "name": name, "mountPath": source.mount_path, "subPath": "models", "readOnly": True,
    }  # fmt: skip
    for container in containers:
        _add(container, "volumeMounts", mount)


def add_modelcar(
    pod: Tree,
    containers: Sequence[Tree],
    source: Source,
    suffix: str,
    settings: StorageInitializer,
) -> None:
    volume, folder = _MODELCAR_VOLUME + suffix, posixpath.dirname(source.mount_path)
    mount: Tree = {"name": volume, "mountPath": folder}
    _add(pod, "volumes", {"name": volume, "emptyDir": {}})
    for container in containers:
        set_env(container, "MODEL_INIT_MODE", "async")
        _add(container, "volumeMounts", mount)
    user = {} if settings.uid_modelcar is None else {"runAsUser": settings.uid_modelcar}
    if user:
        for container in containers[:1]:
            container["securityContext"] = {**(container.get("securityContext") or {}), **user}
    limits = {"cpu": settings.cpu_modelcar, "memory": settings.memory_modelcar}
    base: dict[str, Any] = {
        "image": reference(source),
        "resources": {"limits": dict(limits), "requests": dict(limits)},
    }
    pod["containers"].append(
        {
            "name": f"modelcar{suffix}",
            **base,
            "args": ["sh", "-c", _INSTALL.format(path=source.mount_path)],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [mount],
            **({"securityContext": user} if user else {}),
        }
    )
    pod.setdefault("initContainers", []).append(
        {
            "name": f"modelcar-init{suffix}",
            **base,
            "args": ["sh", "-c", _CHECK],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
    )
    pod["shareProcessNamespace"] = True


def add_fetch_access(pod: Tree, init: Tree, settings: StorageInitializer) -> None:
    """Registry credentials of an init container that pulls the model's image itself."""
    secrets = [
        str(secret["name"]) for secret in pod.get("imagePullSecrets") or () if "name" in secret
    ]
    if secrets:
        item = {"key": ".dockerconfigjson", "path": "config.json"}
        _add(
            pod, "volumes",
            {
                "name": _FETCH_AUTH_VOLUME,
                "secret": {
                    "secretName": secrets[0], "items": [item], "defaultMode": 0o400,
                },
            },
        )  # fmt: skip
        _add(
            init, "volumeMounts",
            {"name": _FETCH_AUTH_VOLUME, "mountPath": FETCH_AUTH_FOLDER, "readOnly": True},
        )  # fmt: skip
        set_env(init, "KSERVE_OCI_DOCKER_CONFIG", f"{FETCH_AUTH_FOLDER}/config.json")
    if settings.oci_insecure_registry:
        set_env(init, "KSERVE_OCI_INSECURE_REGISTRY", "true")


def _add(target: Tree, key: str, item: Tree) -> None:
    """Append a named volume or mount unless one of that name is there."""
    items = target.setdefault(key, [])
    if all(found.get("name") != item["name"] for found in items):
        items.append(dict(item))
