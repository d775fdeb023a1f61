"""Runtimes, storage containers and the configuration of services."""

from __future__ import annotations

import json
from typing import Any

from kedge.api.scheme import CONFIG_MAP
from kedge.cluster.base import Object
from kedge.install import names
from kedge.install.manifests import shipped
from kedge.install.objects.meta import labels, make
from kedge.install.values import Values
from kedge.settings.serving import CONFIG_MAP_NAME

_SHIPPED_PREFIX, _SHIPPED_TAG = "kedge/", "latest"


def make_storage_containers(values: Values) -> list[Object]:
    return [_of_installation(obj, values) for obj in shipped("storagecontainers")]


def make_runtimes(values: Values) -> list[Object]:
    return [_of_installation(obj, values) for obj in shipped("runtimes")]


def make_configuration(values: Values) -> list[Object]:
    """`inferenceservice-config`: what differs from the defaults, and every option described."""
    (shipped_map,) = shipped("config")
    data = {
        **shipped_map["data"],
        "ingress": _document(
            {
                "ingressDomain": values.ingress.domain,
                "kserveIngressGateway": f"{values.namespace}/{names.GATEWAY}",
                "urlScheme": values.ingress.url_scheme,
            }
        ),
        "deploy": _document({"defaultDeploymentMode": values.default_deployment_mode}),
        "storageInitializer": _document({"image": values.image("storage-initializer")}),
    }
    return [make(CONFIG_MAP, CONFIG_MAP_NAME, values, "configuration", data=data)]


def _document(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _of_installation(obj: Object, values: Values) -> Object:
    """A shipped object with labels and with the images of this installation."""
    metadata = {**obj["metadata"], "labels": labels(values, "serving")}
    return {**obj, "metadata": metadata, "spec": _with_images(obj["spec"], values)}


def _with_images(node: Any, values: Values) -> Any:
    if isinstance(node, list):
        return [_with_images(item, values) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _image(value, values)
        if key == "image" and isinstance(value, str)
        else _with_images(value, values)
        for key, value in node.items()
    }


def _image(image: str, values: Values) -> str:
    name, _, tag = image.partition(":")
    if not name.startswith(_SHIPPED_PREFIX) or tag != _SHIPPED_TAG:
        return image
    return values.image(name.removeprefix(_SHIPPED_PREFIX))
