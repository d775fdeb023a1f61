"""What the gateway's account may do, what people may do, and rights narrowed to one namespace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kedge.api.scheme import GATEWAY_GROUP, SERVING_GROUP
from kedge.install import names
from kedge.install.rbac import Rule

_WATCH = ("list", "watch")
_READ = ("get", *_WATCH)
_EDIT = ("create", "delete", "deletecollection", *_READ, "patch", "update")

GATEWAY_RULES: tuple[Rule, ...] = (
    Rule(GATEWAY_GROUP, ("httproutes",), _WATCH),
    Rule(GATEWAY_GROUP, ("httproutes/status",), ("update",)),
    Rule("", ("services",), _WATCH),
    # It writes those of Services that have no pods of their own: they lead to the gateway.
    Rule("discovery.k8s.io", ("endpointslices",), (*_WATCH, "create", "patch", "delete")),
    # Those that such a Service has of a time when it had pods.
    Rule("", ("endpoints",), ("delete",)),
)
"""`kedge gateway`, in the namespaces that are served."""

GATEWAY_CLUSTER_RULES: tuple[Rule, ...] = (
    # Which of them a listener of the Gateway takes routes from may go by their labels.
    Rule("", ("namespaces",), _WATCH),
    Rule(GATEWAY_GROUP, ("gatewayclasses",), _WATCH),
    Rule(GATEWAY_GROUP, ("gatewayclasses/status",), ("update",)),
)
"""`kedge gateway`, where it serves all namespaces; it does without where it serves one."""

GATEWAY_HOME_RULES: tuple[Rule, ...] = (
    Rule(GATEWAY_GROUP, ("gateways",), _WATCH),
    Rule(GATEWAY_GROUP, ("gateways/status",), ("update",)),
    # What leads to the gateway where another Gateway or an Ingress is in front of it.
    Rule("", ("configmaps",), _WATCH),
    Rule(GATEWAY_GROUP, ("httproutes",), (*_WATCH, "create", "patch", "delete")),
    Rule("networking.k8s.io", ("ingresses",), (*_WATCH, "create", "patch", "delete")),
    # Where the other replicas are.
    Rule("discovery.k8s.io", ("endpointslices",), _WATCH),
    # Certificates that the Gateway names, and the token that it shows the autoscaler.
    Rule("", ("secrets",), _READ),
    Rule("coordination.k8s.io", ("leases",), ("get",), (names.CONTROLLER,)),
)
"""`kedge gateway`, in the namespace where Kedge's own objects are."""

NARROW_HOME_RULES: tuple[Rule, ...] = (Rule("", ("secrets",), ("get",)),)
"""What the rights in the whole cluster hold for the installation's own namespace, too, and must be
said where there are none: the token and the certificate are read again."""

GATEWAY_NARROW_RULES: tuple[Rule, ...] = (Rule("", ("services",), _WATCH, (names.GATEWAY,)),)
"""The same for `kedge gateway`: where it is reached from outside."""

NODE_RULES: tuple[Rule, ...] = (
    Rule("", ("nodes",), ("create", "get", "patch")),
    Rule("", ("nodes/status",), ("patch",)),
    Rule("coordination.k8s.io", ("leases",), ("create", "patch")),
    Rule("", ("pods",), (*_WATCH, "delete")),
    Rule("", ("pods/status",), ("patch",)),
    # One by one, as pods name them.
    Rule("", ("configmaps", "secrets", "persistentvolumeclaims", "persistentvolumes"), ("get",)),
    Rule("", ("serviceaccounts/token",), ("create",)),
    Rule("", ("events",), ("create", "get", "patch")),
    Rule("", ("services",), _WATCH),
    Rule("discovery.k8s.io", ("endpointslices",), _WATCH),
)
"""`kedge node`, whom an administrator gives them: nothing that is installed has them."""

EDIT_RULES: tuple[Rule, ...] = (
    Rule(SERVING_GROUP, ("inferenceservices", "servingruntimes"), _EDIT),
    Rule(SERVING_GROUP, ("inferenceservices/status",), ("get",)),
)
"""People who may edit a namespace."""

VIEW_RULES: tuple[Rule, ...] = (
    Rule(
        SERVING_GROUP, ("inferenceservices", "inferenceservices/status", "servingruntimes"), _READ
    ),
)
"""People who may look into a namespace."""

_OF_NO_NAMESPACE = frozenset(
    {
        "clusterservingruntimes", "clusterstoragecontainers", "gatewayclasses", "namespaces",
        "nodes", "storageclasses", "validatingwebhookconfigurations",
    }
)  # fmt: skip


def of_no_namespace(rules: Iterable[Rule]) -> list[Rule]:
    """What of the rules is about kinds that belong to no namespace."""
    return _about(rules, inside=False)


def of_namespaces(rules: Iterable[Rule]) -> list[Rule]:
    """What of the rules is about kinds that live in namespaces."""
    return _about(rules, inside=True)


def _about(rules: Iterable[Rule], *, inside: bool) -> list[Rule]:
    kept = []
    for rule in rules:
        chosen = tuple(r for r in rule.resources if (r not in _OF_NO_NAMESPACE) == inside)
        if chosen:
            kept.append(replace(rule, resources=chosen))
    return kept
