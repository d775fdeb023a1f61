"""Which ServingRuntime serves a model: the one that is named, else the best that fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.errors import (
    NoSupportingRuntime,
    RuntimeDisabled,
    RuntimeNotRecognized,
)

_PROTOCOL_RANKS = {"v1": 1, "v2": 2, "grpc-v1": 3, "grpc-v2": 4}
_NO_PROTOCOL = 5
_NAMED = "Name one with `spec.predictor.model.runtime`, or add a ClusterServingRuntime for it."


@dataclass(frozen=True)
class Selected:
    """The chosen runtime.

    Attributes:
        runtime: the ServingRuntime or ClusterServingRuntime.
        protocol: the model's protocol, or the runtime's first where the model names none; may be
            empty.
    """

    runtime: Object
    protocol: str

    @property
    def name(self) -> str:
        return str(self.runtime["metadata"]["name"])

    @property
    def cluster_scoped(self) -> bool:
        return self.runtime.get("kind") == "ClusterServingRuntime"


def select(
    model: dict[str, Any],
    runtimes: Sequence[Object],
    cluster_runtimes: Sequence[Object],
    *,
    multi_node: bool = False,
) -> Selected:
    """The runtime for a `model`.

    Args:
        model: `spec.predictor.model`.
        runtimes: the ServingRuntimes of the service's namespace.
        cluster_runtimes: all ClusterServingRuntimes.
        multi_node: the predictor has a `workerSpec`.

    Raises:
        RuntimeNotRecognized, RuntimeDisabled: the named runtime is missing or switched off.
        NoSupportingRuntime: nothing serves this format, version and protocol.
    """
    name = model.get("runtime")
    if name:
        runtime = _named(str(name), model, runtimes, cluster_runtimes)
    else:
        runtime = _best(model, runtimes, cluster_runtimes, multi_node)
    protocol = model.get("protocolVersion") or _first_protocol(runtime["spec"])
    return Selected(runtime, str(protocol))


def _named(
    name: str, model: dict[str, Any], runtimes: Sequence[Object], cluster_runtimes: Sequence[Object]
) -> Object:
    runtime = next(
        (found for found in (*runtimes, *cluster_runtimes) if found["metadata"]["name"] == name),
        None,
    )
    if runtime is None:
        raise RuntimeNotRecognized(
            f"There is no ServingRuntime or ClusterServingRuntime `{name}`.",
            fix=f"Correct `spec.predictor.model.runtime`{_known(cluster_runtimes, runtimes)},"
            " remove it to have one chosen, or create that runtime.",
        )
    spec = runtime["spec"]
    if spec.get("disabled"):
        raise RuntimeDisabled(
            f"The runtime `{name}` is disabled.",
            fix="Choose another in `spec.predictor.model.runtime`, or enable it: kubectl patch"
            f" {runtime['kind'].lower()} {name} --type=merge"
            ' -p \'{"spec":{"disabled":false}}\'.',
        )
    protocol = model.get("protocolVersion")
    if protocol and not _speaks(spec, protocol):
        raise NoSupportingRuntime(
            f"The runtime `{name}` does not speak the protocol `{protocol}`.",
            fix="Set `spec.predictor.model.protocolVersion` to one of"
            f" {', '.join(spec['protocolVersions'])}.",
        )
    wanted = model.get("modelFormat") or {}
    if not any(_fits(wanted, entry) for entry in spec.get("supportedModelFormats") or ()):
        raise NoSupportingRuntime(
            f"The runtime `{name}` does not serve {_describe(wanted)}.",
            fix=f"It serves {_list_formats([runtime])}: correct `spec.predictor.model.modelFormat`"
            " or `runtime`.",
        )
    return runtime


def _known(*groups: Sequence[Object]) -> str:
    names = sorted(found["metadata"]["name"] for group in groups for found in group)
    return f" to one of {', '.join(names)}" if names else ""


def _best(
    model: dict[str, Any],
    runtimes: Sequence[Object],
    cluster_runtimes: Sequence[Object],
    multi_node: bool,
) -> Object:
    wanted = model.get("modelFormat") or {}
    protocol = str(model.get("protocolVersion") or "v1")
    for group in (runtimes, cluster_runtimes):
        fitting = [found for found in group if _qualifies(found, wanted, protocol, multi_node)]
        if fitting:
            return _in_order(fitting, str(wanted.get("name")))[0]
    everything = [*runtimes, *cluster_runtimes]
    raise NoSupportingRuntime(
        f"No runtime serves {_describe(wanted)} with protocol `{protocol}`"
        f"{' on several nodes' if multi_node else ''}.",
        fix=_mend(wanted, protocol, everything, multi_node),
    )


def _qualifies(runtime: Object, wanted: dict[str, Any], protocol: str, multi_node: bool) -> bool:
    spec = runtime["spec"]
    return (
        not spec.get("disabled")
        and not spec.get("multiModel")
        and bool(spec.get("workerSpec")) == multi_node
        and _speaks(spec, protocol)
        and any(
            entry.get("autoSelect") and _fits(wanted, entry)
            for entry in spec.get("supportedModelFormats") or ()
        )
    )


def _speaks(spec: dict[str, Any], protocol: str) -> bool:
    protocols = spec.get("protocolVersions") or ()
    return not protocols or protocol in protocols


def _fits(wanted: dict[str, Any], entry: dict[str, Any]) -> bool:
    if wanted.get("name") != entry.get("name"):
        return False
    version = wanted.get("version")
    return not version or str(version) == str(entry.get("version", ""))


def _in_order(runtimes: Sequence[Object], format_name: str) -> list[Object]:
    """Best first: by lowest protocol, newest, name; then, stably, by priority."""
    ordered = sorted(runtimes, key=lambda found: str(found["metadata"]["name"]))
    ordered.sort(
        key=lambda found: str(found["metadata"].get("creationTimestamp", "")), reverse=True
    )
    ordered.sort(key=lambda found: _rank(found["spec"]))
    ordered.sort(key=lambda found: -_priority(found["spec"], format_name))
    return ordered


def _priority(spec: dict[str, Any], format_name: str) -> int:
    for entry in spec.get("supportedModelFormats") or ():
        if entry.get("name") == format_name:
            return int(entry.get("priority") or 0)
    return 0


def _rank(spec: dict[str, Any]) -> int:
    ranks = [_PROTOCOL_RANKS.get(name, _NO_PROTOCOL) for name in spec.get("protocolVersions") or ()]
    return min(ranks, default=_NO_PROTOCOL)


def _first_protocol(spec: dict[str, Any]) -> str:
    protocols = [name for name in spec.get("protocolVersions") or () if name in _PROTOCOL_RANKS]
    return min(protocols, key=lambda name: _PROTOCOL_RANKS[name], default="")


def _describe(wanted: dict[str, Any]) -> str:
    version = wanted.get("version")
    name = wanted.get("name") or ""
    return f"model format `{name}` version `{version}`" if version else f"model format `{name}`"


def _mend(
    wanted: dict[str, Any], protocol: str, runtimes: Sequence[Object], multi_node: bool
) -> str:
    """What would make a runtime fit: another version, protocol or format, or naming one."""
    usable = [
        found
        for found in runtimes
        if not found["spec"].get("disabled")
        and not found["spec"].get("multiModel")
        and bool(found["spec"].get("workerSpec")) == multi_node
    ]
    same_name = [found for found in usable if _formats(found, wanted.get("name"))]
    if not same_name:
        return (
            f"Set `spec.predictor.model.modelFormat.name` to one of {_list_names(usable)}."
            if usable
            else _NAMED
        )
    speaking = [found for found in same_name if _speaks(found["spec"], protocol)]
    if not speaking:
        protocols = sorted(
            {name for found in same_name for name in found["spec"].get("protocolVersions") or ()}
        )
        return f"Set `spec.predictor.model.protocolVersion` to one of {', '.join(protocols)}."
    versions = sorted(
        {
            str(entry.get("version"))
            for found in speaking
            for entry in _formats(found, wanted.get("name"))
            if entry.get("version") and entry.get("autoSelect")
        }
    )
    if wanted.get("version") and versions:
        return (
            "Set `spec.predictor.model.modelFormat.version` to one of"
            f" {', '.join(versions)}, or remove it."
        )
    return f"Set `spec.predictor.model.runtime` to one of {_known(speaking)[len(' to one of ') :]}."


def _formats(runtime: Object, name: Any) -> list[dict[str, Any]]:
    entries = runtime["spec"].get("supportedModelFormats") or ()
    return [entry for entry in entries if entry.get("name") == name]


def _list_names(runtimes: Iterable[Object]) -> str:
    names = {
        str(entry.get("name"))
        for found in runtimes
        for entry in found["spec"].get("supportedModelFormats") or ()
    }
    return ", ".join(sorted(names))


def _list_formats(runtimes: Iterable[Object]) -> str:
    return ", ".join(
        " ".join(str(entry[key]) for key in ("name", "version") if entry.get(key))
        for found in runtimes
        for entry in found["spec"].get("supportedModelFormats") or ()
    )
