"""All objects of an installation, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import yaml

from kedge.cluster.base import Object
from kedge.install.objects import access, controller, crds, gateway, serving
from kedge.install.values import Values


@dataclass(frozen=True)
class Part:
    """Objects that are installed together.

    Attributes:
        name: of the part, and of its file in a chart or base.
        build: makes the objects.
        condition: the value that must be set (`!` before it: must not be) for the part to be
            wanted; several in one string must all hold; empty for always.
    """

    name: str
    build: Callable[[Values], list[Object]]
    condition: str = ""


PARTS: tuple[Part, ...] = (
    Part("namespace", access.make_namespace, "create_namespace !watch_namespace"),
    Part("namespace-shared", access.make_shared_namespace, "create_namespace watch_namespace"),
    Part("crds", crds.make_serving_crds),
    Part("gateway-api-crds", crds.make_gateway_crds),
    Part("service-accounts", access.make_accounts),
    Part("rbac", access.make_cluster_access, "!watch_namespace"),
    Part("rbac-namespace", access.make_namespace_access, "watch_namespace"),
    Part("rbac-users", access.make_user_roles),
    Part("rbac-kubeflow", access.make_kubeflow_roles, "kubeflow.enabled"),
    Part("configuration", serving.make_configuration),
    Part("storage-containers", serving.make_storage_containers),
    Part("runtimes", serving.make_runtimes, "runtimes.enabled"),
    Part("gateway-class", gateway.make_gateway_class),
    Part("gateway", gateway.make_gateway, "!gateway.tls_secret"),
    Part("gateway-tls", gateway.make_tls_gateway, "gateway.tls_secret"),
    Part("network-policy", controller.make_network_policy, "network_policy.enabled"),
    Part("controller", controller.make_controller),
    Part("gateway-pods", gateway.make_gateway_pods),
    Part("webhook", controller.make_webhook, "webhook.enabled"),
)


def parts(values: Values) -> Iterator[tuple[Part, list[Object]]]:
    """The parts that are wanted, with their objects."""
    for part in PARTS:
        if all(values.has(condition) for condition in part.condition.split()):
            yield part, part.build(values)


def render(values: Values) -> list[Object]:
    """Every object."""
    return [obj for _, objects in parts(values) for obj in objects]


class _Dumper(yaml.SafeDumper):
    """Block style, texts of several lines as blocks, and no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(objects: list[Object]) -> str:
    """The objects as one YAML stream."""
    return "".join(
        yaml.dump(
            obj,
            Dumper=_Dumper,
            sort_keys=False,
            width=1000,
            explicit_start=True,
            # Schemas are long: their leaves share a line.
            default_flow_style=None if obj["kind"] == "CustomResourceDefinition" else False,
        )
        for obj in objects
    )
