"""From the words people use to kinds: `isvc`, `pods`, `deployments.apps`, a manifest's `kind`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from kedge.api.scheme import INFERENCE_SERVICE, KINDS, Kind, kind_of
from kedge.client.connection import Connection
from kedge.client.errors import ManifestError
from kedge.cluster.errors import NotFound


def _words(kind: Kind) -> set[str]:
    return {kind.plural, kind.kind.lower(), str(kind), *kind.short_names}


_BY_WORD = {word: kind for kind in reversed(KINDS) for word in _words(kind)}


def find_kind(word: str) -> Kind | None:
    """The kind that a word means: plural, singular, short name, or `plural.group`."""
    return _BY_WORD.get(word.lower())


def unknown_kind(word: str) -> str:
    """What to say of a word that is no kind."""
    near = get_close_matches(word.lower(), _BY_WORD, n=1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return f"`{word}` is no kind of resource that Kedge knows.{hint}"


async def resolve(connection: Connection, obj: dict[str, Any], where: str) -> Kind:
    """The kind of a manifest; one that Kedge does not know itself is looked up at the API.

    Raises:
        ManifestError: the manifest names no kind, or none that the API serves.
    """
    api_version, name = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
    if not api_version or not name:
        missing = "apiVersion" if not api_version else "kind"
        raise ManifestError(
            f"{where} has no `{missing}`.",
            fix=f"Write `apiVersion: {INFERENCE_SERVICE.api_version}` and"
            f" `kind: {INFERENCE_SERVICE.kind}`, or what else it is.",
        )
    known = kind_of(obj)
    if known is not None:
        return known
    group, _, version = api_version.rpartition("/")
    try:
        found = await connection.json("GET", f"/apis/{group}/{version}" if group else "/api/v1")
    except NotFound:
        found = {}
    for resource in found.get("resources", []):
        if resource.get("kind") == name and "/" not in resource.get("name", "/"):
            return Kind(
                group, version, name, resource["name"], "", namespaced=resource["namespaced"]
            )
    raise ManifestError(_not_served(where, api_version, name), fix=_right_version(name))


def _not_served(where: str, api_version: str, name: str) -> str:
    return f"{where}: the API serves no kind `{name}` of apiVersion `{api_version}`."


def _right_version(name: str) -> str:
    for kind in KINDS:
        if kind.kind == name:
            return f"Write `apiVersion: {kind.api_version}`."
    near = get_close_matches(name, [kind.kind for kind in KINDS], n=1)
    return f"Did you mean `kind: {near[0]}`?" if near else "Correct apiVersion and kind."
