"""What there is: groups, versions, kinds, in Kubernetes' three forms of discovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import INFERENCE_SERVICE, KINDS, LEGACY_SERVING_GROUP, POD, Kind
from kedge.cluster.local.http.reviews import REVIEWS
from kedge.cluster.local.http.target import LEGACY_VERSION

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_PART = ["get", "patch", "update"]


@dataclass(frozen=True)
class Resource:
    """One line of discovery: a kind, or a sub-resource of one."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    of_group: str = ""
    of_version: str = ""

    @property
    def is_part(self) -> bool:
        return "/" in self.plural


def _kind_resources(kind: Kind) -> list[Resource]:
    found = [
        Resource(
            kind.group, kind.version, kind.plural, kind.kind, kind.namespaced, tuple(VERBS),
            kind.short_names, kind.categories,
        )
    ]  # fmt: skip

    def part(
        name: str, kind_name: str, verbs: list[str], group: str = "", version: str = ""
    ) -> None:
        found.append(
            Resource(
                kind.group, kind.version, f"{kind.plural}/{name}", kind_name, kind.namespaced,
                tuple(verbs), of_group=group, of_version=version,
            )
        )  # fmt: skip

    if kind.status:
        part("status", kind.kind, _PART)
    if kind.scale:
        part("scale", "Scale", _PART, "autoscaling", "v1")
    if kind is POD:
        part("log", "Pod", ["get"])
    return found


def _all_resources() -> list[Resource]:
    found = [resource for kind in KINDS for resource in _kind_resources(kind)]
    found += [
        Resource(group, version, plural, kind, namespaced, ("create",))
        for (group, version, plural), (kind, namespaced) in REVIEWS.items()
    ]
    found.append(
        Resource(
            "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
            False, ("get", "list", "watch"), ("crd", "crds"), ("api-extensions",),
        )
    )  # fmt: skip
    kind = INFERENCE_SERVICE
    # Last: where a name is in both groups, clients take today's.
    found.append(
        Resource(LEGACY_SERVING_GROUP, LEGACY_VERSION, kind.plural, kind.kind, True, tuple(VERBS))
    )
    return found


RESOURCES = tuple(_all_resources())
GROUPS: dict[str, list[str]] = {}
for _resource in RESOURCES:
    _versions = GROUPS.setdefault(_resource.group, [])
    if _resource.version not in _versions:
        _versions.append(_resource.version)


def api_versions(address: str) -> dict[str, Any]:
    """`/api`."""
    return {
        "kind": "APIVersions",
        "versions": GROUPS[""],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def api_groups() -> dict[str, Any]:
    """`/apis`."""
    groups = [api_group(group) for group in GROUPS if group]
    for group in groups:
        del group["kind"], group["apiVersion"]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(group: str) -> dict[str, Any]:
    """`/apis/GROUP`; raises KeyError when there is no such group."""
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version} for version in GROUPS[group]
    ]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": versions,
        "preferredVersion": versions[0],
    }


def api_resources(group: str, version: str) -> dict[str, Any] | None:
    """`/api/v1` and `/apis/GROUP/VERSION`."""
    found = [one for one in RESOURCES if (one.group, one.version) == (group, version)]
    if not found:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": [_resource_entry(one) for one in found],
    }


def _resource_entry(one: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": one.plural,
        "singularName": "" if one.is_part else one.kind.lower(),
        "namespaced": one.namespaced,
        "kind": one.kind,
        "verbs": list(one.verbs),
    }
    if one.of_version:
        entry |= {"group": one.of_group, "version": one.of_version}
    if one.short_names:
        entry["shortNames"] = list(one.short_names)
    if one.categories:
        entry["categories"] = list(one.categories)
    return entry


def aggregated(core: bool, version: str) -> dict[str, Any]:
    """`/api` or `/apis` with everything in one answer (`apidiscovery.k8s.io`)."""
    groups = [group for group in GROUPS if (group == "") == core]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group, "creationTimestamp": None},
                "versions": [_version_entry(group, one) for one in GROUPS[group]],
            }
            for group in groups
        ],
    }


def _version_entry(group: str, version: str) -> dict[str, Any]:
    here = [one for one in RESOURCES if (one.group, one.version) == (group, version)]
    parts = [one for one in here if one.is_part]
    return {
        "version": version,
        "freshness": "Current",
        "resources": [
            {
                "resource": one.plural,
                "responseKind": {"group": group, "version": version, "kind": one.kind},
                "scope": "Namespaced" if one.namespaced else "Cluster",
                "singularResource": one.kind.lower(),
                "verbs": list(one.verbs),
                "shortNames": list(one.short_names),
                "categories": list(one.categories),
                "subresources": [
                    _part_entry(part) for part in parts
                    if part.plural.partition("/")[0] == one.plural
                ],
            }
            for one in here
            if not one.is_part
        ],
    }  # fmt: skip


def _part_entry(part: Resource) -> dict[str, Any]:
    return {
        "subresource": part.plural.partition("/")[2],
        "responseKind": {
            "group": part.of_group or part.group,
            "version": part.of_version or part.version,
            "kind": part.kind,
        },
        "verbs": list(part.verbs),
    }
