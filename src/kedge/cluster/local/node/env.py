"""A container's environment, as Kubernetes defines it, and what Kedge adds."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Literal

from kedge.cluster.base import Object
from kedge.lib.errors import KedgeError
from kedge.lib.quantity import parse_quantity

Fetch = Callable[[Literal["ConfigMap", "Secret"], str], Awaitable[Mapping[str, bytes] | None]]
"""The data of a ConfigMap or Secret of the pod's namespace; None when there is none."""

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*\Z")
_ENTRY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]\Z")

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


class ConfigError(KedgeError):
    """A container refers to something that is not there, or asks for nonsense."""

    reason = "CreateContainerConfigError"


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; `$$` is a dollar, an unknown name stays as written."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        return known.get(match.group(2), match.group(0))

    return _REFERENCE.sub(replace, text)


async def make_env(
    container: Object, pod: Object, fetch: Fetch, allocatable: Mapping[str, Decimal]
) -> dict[str, str]:
    """The variables that a container's `envFrom` and `env` give.

    Raises:
        ConfigError: a required source or key is missing.
    """
    env: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        await _add_all(env, source, fetch)
    for entry in container.get("env") or []:
        name = entry["name"]
        if entry.get("valueFrom"):
            value = await _value_from(entry, container, pod, fetch, allocatable)
            if value is not None:
                env[name] = value
        else:
            env[name] = expand(entry.get("value") or "", env)
    return env


async def _add_all(env: dict[str, str], source: Object, fetch: Fetch) -> None:
    prefix = source.get("prefix") or ""
    for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        reference = source.get(field)
        if not reference:
            continue
        data = await fetch(kind, reference["name"])  # type: ignore[arg-type]  # two literals
        if data is None and not reference.get("optional"):
            raise _missing(kind, reference["name"])
        for key, value in (data or {}).items():
            if _NAME.match(prefix + key):
                env[prefix + key] = value.decode(errors="replace")


async def _value_from(
    entry: Object, container: Object, pod: Object, fetch: Fetch, allocatable: Mapping[str, Decimal]
) -> str | None:
    source = entry["valueFrom"]
    if reference := source.get("fieldRef"):
        return field_value(pod, reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        return resource_value(pod, container, reference, allocatable)
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if reference := source.get(field):
            return await _key_value(kind, reference, fetch)
    raise ConfigError(f"env {entry['name']}: valueFrom names no source this node knows")


async def _key_value(kind: str, reference: Object, fetch: Fetch) -> str | None:
    name, key = reference.get("name") or "", reference["key"]
    data = await fetch(kind, name)  # type: ignore[arg-type]  # one of the two literals
    if data is not None and key in data:
        return data[key].decode(errors="replace")
    if reference.get("optional"):
        return None
    if data is None:
        raise _missing(kind, name)
    raise ConfigError(
        f"couldn't find key {key} in {kind} {name}.",
        fix=f"Add the key, or mark the reference `optional: true` (it has: {_listed(data)}).",
    )


def _missing(kind: str, name: str) -> ConfigError:
    return ConfigError(f"{kind.lower()} {name!r} not found.", fix=f"Create the {kind} {name}.")


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def field_value(pod: Object, path: str) -> str:
    """A pod field by the path that the downward API names it with.

    Raises:
        ConfigError: there is no such field.
    """
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    if match := _ENTRY.match(path):
        return str((metadata.get(match.group(1)) or {}).get(match.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = metadata.get(path.partition(".")[2]) or {}
        return "\n".join(f'{key}="{_quote(value)}"' for key, value in sorted(entries.items()))
    values: dict[str, Any] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace"),
        "metadata.uid": metadata.get("uid"),
        "spec.nodeName": spec.get("nodeName"),
        "spec.serviceAccountName": spec.get("serviceAccountName") or "default",
        "status.podIP": status.get("podIP"),
        "status.podIPs": status.get("podIP"),
        "status.hostIP": status.get("hostIP"),
        "status.hostIPs": status.get("hostIP"),
    }
    if path not in values:
        raise ConfigError(
            f"fieldRef: there is no pod field {path!r}.", fix=f"Use one of {', '.join(values)}."
        )
    return str(values[path] or "")


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(
    pod: Object, container: Object, reference: Object, allocatable: Mapping[str, Decimal]
) -> str:
    """A container's request or limit, rounded up to the divisor; without a limit, the node's."""
    named = reference.get("containerName")
    if named:
        spec = pod["spec"]
        everyone = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        container = next((c for c in everyone if c["name"] == named), container)
    which, _, resource = str(reference.get("resource") or "").partition(".")
    resources = container.get("resources") or {}
    given = (resources.get(which) or {}).get(resource)
    if given is None and which == "requests":
        given = (resources.get("limits") or {}).get(resource)
    if given is not None:
        amount = parse_quantity(given)
    else:
        amount = allocatable.get(resource, Decimal(0)) if which == "limits" else Decimal(0)
    divisor = parse_quantity(reference.get("divisor") or 1) or Decimal(1)
    return str(math.ceil(amount / divisor))


def thread_env(cpu_limit: Decimal | None) -> dict[str, str]:
    """BLAS and OpenMP would start a thread per core of the machine: hold them to the limit."""
    if cpu_limit is None:
        return {}
    return dict.fromkeys(THREAD_VARIABLES, str(max(1, math.ceil(cpu_limit))))


def proxy_env(proxy_url: str, address: str) -> dict[str, str]:
    """Names of services are resolved by the gateway; loopback is reached directly."""
    if not proxy_url:
        return {}
    # Clients read this list differently: some know ranges, some only exact hosts.
    direct = f"localhost,127.0.0.1,::1,127.0.0.0/8,{address}"
    return {
        "http_proxy": proxy_url,
        "HTTP_PROXY": proxy_url,
        "no_proxy": direct,
        "NO_PROXY": direct,
    }
