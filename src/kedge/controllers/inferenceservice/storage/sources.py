"""Where a model's files are: what a storage URI means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.errors import InvalidStorage
from kedge.controllers.inferenceservice.names import MODEL_PATH

PREFIXES = (
    "gs://",
    "s3://",
    "pvc://",
    "file://",
    "https://",
    "http://",
    "hdfs://",
    "webhdfs://",
    "oci://",
    "oci+native://",
    "oci+fetch://",
    "oci+modelcar://",
    "hf://",
)
_AZURE = re.compile(
    r"https://(.+?)\.(?:z\d+\.)?(?:blob|file)\.(?:core\.windows|storage\.azure)\.net/"
)
_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".mar.gz")
_FILE = re.compile(r"\.(?:joblib|pkl|pickle|bst|ubj|json|txt|model|onnx|pmml|pt|pth|bin|mar|cbm)$")


@dataclass(frozen=True)
class Source:
    """One place to take files from, and where they go."""

    uri: str
    mount_path: str = MODEL_PATH

    @property
    def is_pvc(self) -> bool:
        return self.uri.startswith("pvc://")

    @property
    def is_oci(self) -> bool:
        return bool(re.match(r"oci(?:\+[a-z]+)?://", self.uri))

    @property
    def local_path(self) -> str | None:
        """The path on the machine, when that is what the URI names."""
        if self.uri.startswith("file://"):
            return self.uri.removeprefix("file://")
        return None if "://" in self.uri else self.uri

    @property
    def is_archive(self) -> bool:
        return self.uri.lower().endswith(_ARCHIVES)

    @property
    def is_file(self) -> bool:
        """Whether a local path names one model file rather than a folder, by its ending."""
        return bool(_FILE.search(self.uri.lower()))

    def claim(self) -> tuple[str, str]:
        """The claim of a `pvc://` URI and the path inside it."""
        claim, _, path = self.uri.removeprefix("pvc://").partition("/")
        if not claim:
            raise InvalidStorage(
                f"The storage URI `{self.uri}` names no claim.",
                fix="Write it as pvc://CLAIM/PATH.",
            )
        return claim, path.strip("/")


def check_accepted(uri: str, containers: Sequence[Object]) -> None:
    """Raise `InvalidStorage` for a URI that nothing here can fetch."""
    if (
        "://" not in uri
        or uri.startswith(PREFIXES)
        or _AZURE.match(uri)
        or any(supports(container, uri) for container in usable(containers))
    ):
        return
    raise InvalidStorage(
        f"The storage URI `{uri}` has a scheme that nothing here can fetch.",
        fix=f"Use one of {', '.join(PREFIXES)}, an absolute path, or add a"
        " ClusterStorageContainer that supports it.",
    )


def usable(containers: Sequence[Object]) -> list[Object]:
    """The ClusterStorageContainers that serve InferenceServices."""
    return [
        container
        for container in containers
        if not container.get("disabled")
        and (container["spec"].get("workloadType") or "initContainer") == "initContainer"
    ]


def supports(container: Object, uri: str) -> bool:
    """Whether a ClusterStorageContainer's formats match a URI."""
    for entry in container["spec"].get("supportedUriFormats") or ():
        if entry.get("prefix"):
            if uri.startswith(entry["prefix"]):
                return True
        elif entry.get("regex") and _search(entry["regex"], uri):
            return True
    return False


def _search(pattern: str, uri: str) -> bool:
    try:
        return re.search(pattern, uri) is not None
    except re.error:
        return False


def volume_name(mount_path: str) -> str:
    """`/mnt/models` -> `mnt-models`."""
    return re.sub(r"[^a-z0-9-]+", "-", mount_path.strip("/").lower().replace("/", "-")).strip("-")


def read_sources(component: dict[str, Any]) -> list[Source]:
    """`storageUris` of a component."""
    return [
        Source(str(entry["uri"]), str(entry.get("mountPath") or MODEL_PATH))
        for entry in component.get("storageUris") or ()
    ]
