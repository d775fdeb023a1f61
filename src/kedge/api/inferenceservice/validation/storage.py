"""Rules on where files come from and where they appear."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from kedge.api.findings import Findings, nearest
from kedge.api.inferenceservice.validation.subject import Part, Subject, models, single_uri

_RESOURCE_ID = re.compile(r"kbs:///[a-zA-Z0-9_.-]+/[a-zA-Z0-9_.-]+/[a-zA-Z0-9_.-]+")
_DEFAULT_MOUNT = "/mnt/models"
SCHEMES = (
    "gs", "s3", "pvc", "file", "https", "http", "hdfs", "webhdfs", "oci", "oci+native",
    "oci+fetch", "oci+modelcar", "hf", "modelscope",
)  # fmt: skip
"""Schemes that Kedge's own storage initializer or the controller understands."""


def check_uris(subject: Subject, findings: Findings) -> None:
    """7: one URI or several, and folders that can be mounted together."""
    for part in (*subject.components, *subject.canaries):
        single = single_uri(part)
        if part.spec.get("storageUris") is not None:
            if single is not None:
                findings.invalid(
                    f"{part.path}.storageUris",
                    [entry.get("uri") for entry in part.spec["storageUris"]],
                    f"{single[0]} is set too",
                    "Keep one of the two.",
                )
            _check_several(Part(f"{part.path}.storageUris", part.spec), findings)
        for model in models(part):
            _check_single(model, findings)


def _check_single(model: Part, findings: Findings) -> None:
    uri = str(model.spec.get("storageUri") or "")
    if uri and (model.spec.get("storage") or {}).get("path"):
        findings.invalid(
            f"{model.path}.storage.path",
            model.spec["storage"]["path"],
            "storageUri is set too",
            "Keep one of the two.",
        )
    _warn_of_scheme(f"{model.path}.storageUri", uri, findings)


def _warn_of_scheme(path: str, uri: str, findings: Findings) -> None:
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme in SCHEMES:
        return
    meant = nearest(scheme, SCHEMES)
    findings.warn(
        path,
        f"{scheme}:// is no scheme that Kedge can bring by itself",
        f"Write {meant}://, or add a ClusterStorageContainer for it."
        if meant
        else "Add a ClusterStorageContainer for it.",
    )


def _check_several(part: Part, findings: Findings) -> None:
    entries: list[dict[str, Any]] = part.spec["storageUris"]
    for i, entry in enumerate(entries):
        if not entry.get("uri"):
            findings.missing(f"{part.path}[{i}].uri", "it is empty", "Name where the files are.")
        _warn_of_scheme(f"{part.path}[{i}].uri", str(entry.get("uri") or ""), findings)
        _check_mount(f"{part.path}[{i}].mountPath", _mount(entry), findings)
    volumes = [entry for entry in entries if str(entry.get("uri", "")).startswith("pvc://")]
    downloads = [entry for entry in entries if entry not in volumes]
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        if entry in volumes and _mount(entry) in seen:
            findings.invalid(
                f"{part.path}[{i}].mountPath",
                _mount(entry),
                "another volume is mounted there",
                "Give each pvc:// entry a mountPath of its own.",
            )
        if entry in volumes:
            seen.add(_mount(entry))
    mounts = [_mount(entry) for entry in downloads if _mount(entry).startswith("/")]
    if len(mounts) > 1 and posixpath.commonpath(mounts) == "/":
        findings.invalid(
            f"{part.path}",
            mounts,
            "the folders have no common parent below /",
            "Put them under one folder, such as /mnt/models/a and /mnt/models/b.",
        )


def _mount(entry: dict[str, Any]) -> str:
    return str(entry.get("mountPath") or _DEFAULT_MOUNT)


def _check_mount(path: str, mount: str, findings: Findings) -> None:
    problem = ""
    if posixpath.normpath(mount).strip("/") == "":
        problem = "files cannot be mounted over the root folder"
    elif not mount.startswith("/"):
        problem = "it is not an absolute path"
    elif ".." in mount.split("/"):
        problem = "it contains .."
    if problem:
        findings.invalid(path, mount, problem, "Use an absolute path such as /mnt/models.")


def check_confidential(subject: Subject, findings: Findings) -> None:
    """8: what encrypted files need."""
    for part in subject.predictors:
        for model in models(part):
            confidential = model.spec.get("confidential") or {}
            if confidential.get("enabled"):
                _check_key(model, confidential, findings)


def _check_key(model: Part, confidential: dict[str, Any], findings: Findings) -> None:
    uri = str(model.spec.get("storageUri") or "")
    if not uri:
        findings.missing(
            f"{model.path}.storageUri",
            "encrypted files are decrypted while they are downloaded",
            "Name where the model is, or disable confidential.",
        )
    resource = str(confidential.get("resourceId") or "")
    if not _RESOURCE_ID.fullmatch(resource):
        findings.invalid(
            f"{model.path}.confidential.resourceId",
            resource,
            "it does not have the form kbs:///repository/type/tag",
            "Name the key as kbs:///repository/type/tag.",
        )
    for scheme in ("oci", "pvc"):
        if uri.startswith(f"{scheme}://"):
            findings.warn(
                f"{model.path}.confidential",
                f"{scheme}:// files are mounted and not downloaded, so they are not decrypted",
                "Use a URI that is downloaded, such as s3:// or https://.",
            )
