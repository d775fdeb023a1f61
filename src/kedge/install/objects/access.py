"""The namespace, the service accounts, and who may do what."""

from __future__ import annotations

from collections.abc import Iterable

from kedge.api.scheme import NAMESPACE, SERVICE_ACCOUNT, Kind
from kedge.cluster.base import Object
from kedge.install import names, rbac, rights
from kedge.install.kinds import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING
from kedge.install.objects.meta import make
from kedge.install.rbac import Rule
from kedge.install.values import Values

_RULES = {
    names.CONTROLLER: (rbac.CONTROLLER_RULES, rbac.CONTROLLER_HOME_RULES),
    names.GATEWAY: (rights.GATEWAY_RULES, rights.GATEWAY_HOME_RULES),
}
_WIDE_RULES = {names.CONTROLLER: (), names.GATEWAY: rights.GATEWAY_CLUSTER_RULES}
_NARROW_RULES = {
    names.CONTROLLER: rights.NARROW_HOME_RULES,
    names.GATEWAY: (*rights.NARROW_HOME_RULES, *rights.GATEWAY_NARROW_RULES),
}
COMPONENTS = {names.CONTROLLER: "controller", names.GATEWAY: "gateway"}
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
_KUBEFLOW = "rbac.authorization.kubeflow.org/aggregate-to-kubeflow-"


def make_namespace(values: Values) -> list[Object]:
    """For Kedge's own pods alone: all keep to the strictest profile, and none other may come."""
    (made,) = make_shared_namespace(values)
    made["metadata"]["labels"] |= {"pod-security.kubernetes.io/enforce": "restricted"}
    return [made]


def make_shared_namespace(values: Values) -> list[Object]:
    """Where models may run, too."""
    return [make(NAMESPACE, values.namespace, values, "namespace")]


def make_accounts(values: Values) -> list[Object]:
    return [
        make(SERVICE_ACCOUNT, name, values, component, automountServiceAccountToken=False)
        for name, component in COMPONENTS.items()
    ]


def make_cluster_access(values: Values) -> list[Object]:
    """Kedge serves all namespaces."""
    made = []
    for name, (served, home) in _RULES.items():
        made += _grant(CLUSTER_ROLE, name, values, [*served, *_WIDE_RULES[name]])
        made += _grant(ROLE, name, values, home)
    return made


def make_namespace_access(values: Values) -> list[Object]:
    """Kedge serves one namespace, and may write nowhere else."""
    made = []
    for name, (served, home) in _RULES.items():
        if shared := rights.of_no_namespace(served):
            made += _grant(CLUSTER_ROLE, name, values, shared)
        made += _grant(ROLE, name, values, [*home, *_NARROW_RULES[name]])
        inside = _grant(ROLE, f"{name}-served", values, rights.of_namespaces(served), account=name)
        for obj in inside:
            obj["metadata"]["namespace"] = values.watch_namespace
        made += inside
    return made


def make_user_roles(values: Values) -> list[Object]:
    """Whoever may edit or view a namespace may do so with its services."""
    return [
        _user_role("kedge-edit", values, rights.EDIT_RULES, _TO_EDITORS),
        _user_role("kedge-view", values, rights.VIEW_RULES, {f"{_AGGREGATE}view": "true"}),
    ]  # fmt: skip


_TO_EDITORS = {f"{_AGGREGATE}{role}": "true" for role in ("admin", "edit")}


def make_kubeflow_roles(values: Values) -> list[Object]:
    """The same for the profiles of Kubeflow."""
    return [
        _user_role("kedge-kubeflow-edit", values, rights.EDIT_RULES, {f"{_KUBEFLOW}edit": "true"}),
        _user_role("kedge-kubeflow-view", values, rights.VIEW_RULES, {f"{_KUBEFLOW}view": "true"}),
    ]


def _user_role(
    name: str, values: Values, rules: Iterable[Rule], aggregation: dict[str, str]
) -> Object:
    made = make(CLUSTER_ROLE, name, values, "users", rules=[rule.to_dict() for rule in rules])
    made["metadata"]["labels"] |= aggregation
    return made


def _grant(
    kind: Kind,
    name: str,
    values: Values,
    rules: Iterable[Rule],
    *,
    account: str = "",
) -> list[Object]:
    """A role and its binding to a service account, by default the one of the same name."""
    account = account or name
    component = COMPONENTS[account]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": values.namespace}
    reference = {"apiGroup": kind.group, "kind": kind.kind, "name": name}
    binding = CLUSTER_ROLE_BINDING if kind is CLUSTER_ROLE else ROLE_BINDING
    return [
        make(kind, name, values, component, rules=[rule.to_dict() for rule in rules]),
        make(binding, name, values, component, roleRef=reference, subjects=[subject]),
    ]
