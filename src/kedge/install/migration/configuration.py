"""KServe's `inferenceservice-config` in Kedge's terms."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from kedge.settings.serving import DEFAULT_DOMAIN_TEMPLATE, ConfigError, ServingConfig

_KNATIVE_TEMPLATE = "{{ .Name }}.{{ .Namespace }}.{{ .IngressDomain }}"
_OURS = {
    "storageInitializer": ("image",),
    "logger": ("image",),
    "batcher": ("image",),
    "agent": ("image",),
    "router": ("image",),
    "ingress": ("kserveIngressGateway",),
}
"""What stays as Kedge's installation has it: its own images, and its own gateway. Where KServe's
services come in by a Gateway, that one stays in front of Kedge's."""


@dataclass
class Carried:
    """What Kedge's ConfigMap gets.

    Attributes:
        data: the whole of it.
        kept: keys that are carried over.
        left: what is not, and why.
    """

    data: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def carry_over(theirs: Mapping[str, str], ours: Mapping[str, str]) -> Carried:
    """Kedge's configuration with KServe's choices in it.

    Args:
        theirs: the data of KServe's ConfigMap.
        ours: the data of Kedge's, which says what theirs does not.
    """
    sections = {field.encode_name: _options(field.type) for field in ServingConfig.sections()}
    result = Carried(data=dict(ours))
    for key in sorted(theirs):
        if key.startswith("_"):
            continue
        if key not in sections:
            result.left.append(f"{key}: Kedge has no such part")
            continue
        _carry_section(key, theirs[key], sections[key], result)
    return result


def _carry_section(key: str, text: str, known: frozenset[str], result: Carried) -> None:
    try:
        ServingConfig.from_config_map({"data": {key: text}})
        given = json.loads(text)
        before = json.loads(result.data.get(key) or "{}")
    except (json.JSONDecodeError, ConfigError) as error:
        said = error.message if isinstance(error, ConfigError) else str(error)
        result.left.append(f"{key}: {said}")
        return
    ours = () if given.get("enableGatewayApi") else _OURS.get(key, ())
    left = [name for name in given if name not in known or name in ours]
    taken = {name: value for name, value in given.items() if name not in left}
    for name in left:
        why = "Kedge's own is used" if name in ours else "Kedge does not use it"
        result.left.append(f"{key}.{name}: {why}")
    if taken:
        result.data[key] = json.dumps({**before, **taken}, indent=2, ensure_ascii=False) + "\n"
        result.kept.append(key)


def _options(section: Any) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(section))


@dataclass(frozen=True)
class Hosts:
    """How hosts are made.

    Attributes:
        domain: `ingressDomain`.
        template: `domainTemplate`.
        scheme: `urlScheme`.
    """

    domain: str
    template: str
    scheme: str


def find_hosts(services: Iterable[tuple[str, str, str]]) -> Hosts | None:
    """The settings by which most services keep their URL; None where none has one.

    Knative names them `{name}.{namespace}.{domain}`, KServe `{name}-{namespace}.{domain}`, and a
    cluster's services may be of both modes.

    Args:
        services: name, namespace and URL of each.
    """
    seen: Counter[Hosts] = Counter()
    for name, namespace, url in services:
        parts = urlsplit(url)
        host = parts.hostname or ""
        for start, template in (
            (f"{name}.{namespace}.", _KNATIVE_TEMPLATE),
            (f"{name}-{namespace}.", DEFAULT_DOMAIN_TEMPLATE),
        ):
            domain = host.removeprefix(start)
            if domain != host and not domain.startswith("svc"):
                seen[Hosts(domain, template, parts.scheme)] += 1
    return seen.most_common(1)[0][0] if seen else None


def with_hosts(data: Mapping[str, str], hosts: Hosts | None) -> dict[str, str]:
    """A ConfigMap's data in which services keep their URLs."""
    if hosts is None:
        return dict(data)
    ingress = {
        **json.loads(data.get("ingress") or "{}"),
        "ingressDomain": hosts.domain,
        "domainTemplate": hosts.template,
        "urlScheme": hosts.scheme,
    }
    return {**data, "ingress": json.dumps(ingress, indent=2, ensure_ascii=False) + "\n"}
