"""Image names: tags chosen by `runtimeVersion`, accelerator suffixes, and Kedge's own servers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_GPU_SUFFIXED = frozenset({"tensorflow-serving", "torchserve", "huggingfaceserver"})
_KEDGE_SERVERS = re.compile(
    r"(?:^|/)(?:(?:kserve|kedge)[-/](?:sklearnserver|xgbserver|lgbserver|paddleserver|pmmlserver)"
    r"|kserve[-/]predictiveserver"
    r"|kedge[-/](?:catboost|huggingface|mlflow|onnx|python|pytorch|tensorflow)server)$"
)


def split(image: str) -> tuple[str, str]:
    """(repository, tag); the tag is empty when there is none. A registry's port is no tag."""
    repository, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        return image, ""
    return repository, tag


def with_version(
    image: str, version: str, server_type: str, resources: Mapping[str, Any] | None
) -> str:
    """The image that a model's `runtimeVersion`, or else its server type and GPUs, ask for."""
    if "@sha256:" in image:
        return image
    repository, tag = split(image)
    if version:
        return f"{repository}:{version}"
    if not tag:
        return image
    gpu = limits_gpu(resources)
    if server_type in _GPU_SUFFIXED and gpu and not tag.endswith("-gpu"):
        return f"{repository}:{tag}-gpu"
    if server_type == "vllmserver" and not gpu and not repository.endswith("-cpu"):
        return f"{repository}-cpu:{tag}"
    return image


def limits_gpu(resources: Mapping[str, Any] | None) -> bool:
    """Whether the limits name an NVIDIA GPU or a slice of one."""
    limits = (resources or {}).get("limits") or {}
    return any(name == "nvidia.com/gpu" or name.startswith("nvidia.com/mig") for name in limits)


def is_kedge_server(image: str) -> bool:
    """Whether the image is one that Kedge's own model server stands for.

    Such a container listens for gRPC on 8081 even if it declares no port.
    """
    return bool(_KEDGE_SERVERS.search(split(image.partition("@")[0])[0]))
