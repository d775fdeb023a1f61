"""From a storage URI to files in a folder: which way each scheme goes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from kedge.storage.archives import unpack_single
from kedge.storage.errors import StorageError, disk_error
from kedge.storage.http import Downloader
from kedge.storage.local import link

Report = Callable[[str], None]

_LATER = {
    "s3": "s3",
    "gs": "gcs",
    "hf": "huggingface",
    "azure": "azure",
    "abfs": "azure",
    "hdfs": "hdfs",
    "webhdfs": "hdfs",
    "oci": "oci",
    "oci+fetch": "oci",
    "oci+native": "oci",
    "modelscope": "modelscope",
}
_AZURE = re.compile(r"https://[^/]+\.(?:blob|file)\.(?:core\.windows\.net|storage\.azure\.net)/")
_GIT = re.compile(r"https://[^\s]+\.git(?:/|$)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def bring(
    source: str, destination: Path, report: Report, env: Mapping[str, str] | None = None
) -> None:
    """Makes the files of `source` appear in `destination`."""
    env = os.environ if env is None else env
    try:
        destination.mkdir(parents=True, exist_ok=True)
        _bring(source, destination, report, env)
    except OSError as error:
        raise disk_error(error, destination) from error


def _bring(source: str, destination: Path, report: Report, env: Mapping[str, str]) -> None:
    found = _SCHEME.match(source)
    scheme = found[1].lower() if found else ""
    if not scheme or scheme == "file":
        if source.startswith("/mnt/models") and not Path(source).exists():
            return  # Multi-model serving: the models come later, one by one.
        link(Path(source.removeprefix("file://")), destination, report, env)
    elif scheme == "pvc":
        raise StorageError(
            f"{source} is a volume, which is mounted and not fetched.",
            fix="Use pvc://CLAIM/PATH as the storageUri itself: its pod mounts the claim.",
        )
    elif scheme in _LATER or _AZURE.match(source) or _GIT.match(source):
        raise _not_yet(source, _LATER.get(scheme, "azure" if _AZURE.match(source) else "git"))
    elif scheme in ("http", "https"):
        Downloader(env, report).fetch(source, destination)
    else:
        raise StorageError(
            f"Cannot recognize storage type for {source}.",
            fix="Use a path, file://, http://, https:// or pvc://.",
        )
    unpack_single(destination, report)


def _not_yet(source: str, extra: str) -> StorageError:
    return StorageError(
        f"Fetching {source} needs the extra kedge[{extra}], which this release does not have yet.",
        fix="Bring the files by https://, by a path, or by a volume (pvc://).",
    )
