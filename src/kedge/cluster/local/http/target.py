"""Which objects a URL is about."""

from __future__ import annotations

from dataclasses import dataclass

from kedge.api.scheme import KINDS, LEGACY_SERVING_GROUP, NAMESPACE, SERVING_GROUP, Kind

_BY_PLURAL = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
LEGACY_VERSION = "v1beta1"
"""The version of the old group that is still served."""


@dataclass(frozen=True)
class Target:
    """A collection, or one object of it, or a sub-resource of that.

    Attributes:
        namespace: None for all, and for kinds that live in none.
        legacy: addressed by the old group, and to be answered in its terms.
        watch: addressed by the deprecated `/watch/` prefix.
    """

    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""
    legacy: bool = False
    watch: bool = False

    @property
    def api_version(self) -> str:
        """What answers carry as their apiVersion."""
        if self.legacy:
            return f"{LEGACY_SERVING_GROUP}/{self.kind.version}"
        return self.kind.api_version


def parse_target(path: str) -> Target | None:
    """None when the path names nothing that is served."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watch = rest[0] == "watch" and len(rest) > 1
    if watch:
        rest = rest[1:]
    legacy = group == LEGACY_SERVING_GROUP
    return _parse_rest(SERVING_GROUP if legacy else group, version, rest, legacy, watch)


def _parse_rest(
    group: str, version: str, rest: list[str], legacy: bool, watch: bool
) -> Target | None:
    namespace: str | None = None
    if rest[0] == "namespaces" and len(rest) > 2 and not _is_namespace_itself(rest):
        namespace, rest = rest[1], rest[2:]
    kind = _BY_PLURAL.get((group, version, rest[0]))
    if kind is None or len(rest) > 3 or ((namespace is not None) and not kind.namespaced):
        return None
    if legacy and version != LEGACY_VERSION:
        return None
    name = rest[1] if len(rest) > 1 else None
    if name is not None and kind.namespaced and namespace is None:
        return None
    subresource = rest[2] if len(rest) > 2 else ""
    return Target(kind, namespace, name, subresource, legacy, watch)


def _is_namespace_itself(rest: list[str]) -> bool:
    """`/namespaces/NAME/status` is about the namespace, `/namespaces/NAME/pods` about its pods."""
    return len(rest) == 3 and rest[2] in ("status", "finalize") and NAMESPACE.plural == rest[0]
