"""The shape of ClusterStorageContainer."""

from __future__ import annotations

from typing import Literal

import msgspec
from lightkube.models import core_v1, meta_v1


class SupportedUriFormat(msgspec.Struct, kw_only=True, omit_defaults=True):
    """URIs that the container can bring; the prefix counts when both are given.

    Attributes:
        prefix: what the URI starts with.
        regex: an expression found anywhere in the URI.
    """

    prefix: str | None = None
    regex: str | None = None


class StorageContainerSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A container that brings model files.

    Attributes:
        container: laid over the built-in init container; its name must be `storage-initializer`.
        supportedUriFormats: URIs it can bring.
        workloadType: `initContainer` for services, `localModelDownloadJob` for node caches.
        supportsMultiModelDownload: it takes several pairs of URI and folder.
    """

    container: core_v1.Container
    supportedUriFormats: list[SupportedUriFormat] | None = None
    workloadType: Literal["initContainer", "localModelDownloadJob"] | None = None
    supportsMultiModelDownload: bool | None = None


class ClusterStorageContainer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The init container that brings model files of given URIs.

    Attributes:
        apiVersion: `serving.kserve.io/v1alpha1`.
        kind: `ClusterStorageContainer`.
        metadata: standard object metadata.
        spec: the container and its URIs.
        disabled: not to be used.
    """

    apiVersion: str | None = None
    kind: str | None = None
    metadata: meta_v1.ObjectMeta | None = None
    spec: StorageContainerSpec | None = None
    disabled: bool | None = None
