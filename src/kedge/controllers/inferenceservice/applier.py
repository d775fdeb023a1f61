"""Children into the cluster: server-side apply, skipped when nothing would change.

`spec.replicas` belongs to another field manager, `kedge-autoscaler`: applying a Deployment without
it would otherwise bring it back to one pod. So a Deployment is created with its count, the other
manager claims the count, and from then on it is only ever scaled.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import DEPLOYMENT, GATEWAY_GROUP, SERVICE, Kind
from kedge.cluster.base import FIELD_MANAGER, Cluster, Object
from kedge.cluster.errors import NotFound
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.cache import Cache, is_owned
from kedge.controllers.inferenceservice.children.meta import digest
from kedge.controllers.inferenceservice.errors import BuildError
from kedge.lib.quantity import parse_quantity


class NameTaken(BuildError):
    """An object of that name is there, and it is somebody else's."""

    reason = "NameTaken"


class KindMissing(BuildError):
    """The cluster does not know a kind that is needed."""

    reason = "KindMissing"


@dataclass(slots=True)
class Applied:
    """What was wanted of a child at an earlier look, and found to be so.

    Attributes:
        wanted: as it was built; stamped: as it is applied.
        live: the object that was found to say all that.
    """

    wanted: Object
    stamped: Object
    live: Object | None = None


Applications = dict[tuple[str, str], Applied]
"""By kind and name."""


class Applier:
    """Writes the children of one InferenceService.

    Attributes:
        written: kind and name of everything that shall stay.
        known: from earlier looks at the same service; nothing depends on it but the time it takes.
    """

    def __init__(self, cluster: Cluster, cache: Cache, isvc: Object) -> None:
        self._cluster = cluster
        self._cache = cache
        self._isvc = isvc
        self.written: set[tuple[str, str]] = set()
        self.known: Applications = {}

    async def apply(self, kind: Kind, obj: Object) -> Object:
        """The object as stored, after making it so."""
        place = (kind.kind, str(obj["metadata"]["name"]))
        self.written.add(place)
        known = self.known.get(place)
        if known is None or known.wanted != obj:
            known = self.known[place] = Applied(obj, _stamp(obj))
        live = self._cached(kind, obj)
        if live is not None and live is known.live:
            return live
        if live is None:
            # What is somebody else's need not carry the label by which we watch.
            live = await self.find(kind, obj["metadata"]["name"])
        if live is not None:
            self._check_owner(kind, live)
            if _is_applied(live, known.stamped):
                known.live = live
                return live
            if kind == SERVICE and _is_headless(live) != _is_headless(obj):
                # A Service with an address cannot become one without, nor the other way round.
                await self.delete_named(kind, place[1], uid=live["metadata"].get("uid"))
        try:
            return await self._cluster.apply(kind, known.stamped)
        except NotFound as error:
            raise _missing(kind, error) from error

    async def apply_front(self, service: Object) -> None:
        """Apply a Service by which clients come; one that is still to be taken over stays so."""
        if self._is_beside:
            name = service["metadata"]["name"]
            live = await self.find(SERVICE, name)
            if live is not None and not applied_hash(live):
                self.keep(SERVICE, name)
                return
        await self.apply(SERVICE, service)

    async def apply_unseen(self, kind: Kind, obj: Object) -> Object:
        """Apply an object of a kind that nobody watches."""
        self._note(obj)
        return await self._cluster.apply(kind, _stamp(obj))

    async def ensure_deployment(
        self, deployment: Object, replicas: int, *, only_raise: bool = False
    ) -> Object:
        """Apply a Deployment; scale it only when the count that the service asks for changed.

        A count that somebody set with `kubectl scale` stays until then.

        Args:
            deployment: without replicas.
            replicas: the count asked for.
            only_raise: something else scales it too, so never take pods away.
        """
        name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
        wanted = _with_annotation(deployment, names.INITIAL_REPLICAS, str(replicas))
        live = self._cached(DEPLOYMENT, deployment) or await self.find(DEPLOYMENT, name)
        if live is None:
            return await self._create(wanted, replicas)
        self._check_owner(DEPLOYMENT, live)
        recorded = (live["metadata"].get("annotations") or {}).get(names.INITIAL_REPLICAS)
        now = _replicas(live)
        if recorded is not None and recorded != str(replicas):
            count = max(now, replicas) if only_raise else replicas
            if count != now:
                await self.scale(name, namespace, count)
        elif not _count_is_claimed(live):
            await self._claim(deployment, now)
        return await self.apply(DEPLOYMENT, wanted)

    async def raise_to(self, deployment: Object, replicas: int) -> None:
        """Give a Deployment more pods at once; what scales it takes them back."""
        if _replicas(deployment) < replicas:
            metadata = deployment["metadata"]
            await self.scale(metadata["name"], metadata["namespace"], replicas)

    async def annotate(self, kind: Kind, obj: Object, wanted: Mapping[str, str | None]) -> None:
        """Set annotations that are not part of what is applied; None removes one."""
        metadata = obj["metadata"]
        live = metadata.get("annotations") or {}
        changed = {key: value for key, value in wanted.items() if live.get(key) != value}
        if not changed:
            return
        patch = {"metadata": {"annotations": changed}}
        try:
            await self._cluster.patch(
                kind, metadata["name"], patch, namespace=metadata["namespace"]
            )
        except NotFound:
            return

    async def scale(self, name: str, namespace: str, replicas: int) -> None:
        await self._cluster.scale(
            DEPLOYMENT, name, namespace, replicas, field_manager=names.AUTOSCALER_MANAGER
        )

    async def rest(self, deployment: Object) -> None:
        """Take all pods from a Deployment that nobody needs now, and remember that."""
        await self._record(deployment, 0)

    async def wake(self, deployment: Object, replicas: int) -> None:
        """Give a resting Deployment its pods back."""
        await self._record(deployment, replicas)

    async def _record(self, deployment: Object, replicas: int) -> None:
        metadata = deployment["metadata"]
        recorded = (metadata.get("annotations") or {}).get(names.INITIAL_REPLICAS)
        if _replicas(deployment) != replicas:
            await self.scale(metadata["name"], metadata["namespace"], replicas)
        if recorded != str(replicas):
            note = {"metadata": {"annotations": {names.INITIAL_REPLICAS: str(replicas)}}}
            await self._cluster.patch(
                DEPLOYMENT, metadata["name"], note, namespace=metadata["namespace"]
            )

    def keep(self, kind: Kind, name: str) -> None:
        """An object that is not written now but shall stay."""
        self.written.add((kind.kind, name))

    async def delete(self, kind: Kind, obj: Object) -> None:
        """Delete an object if it is this service's; gone already is fine."""
        if not is_owned(obj, self._isvc) or obj["metadata"].get("deletionTimestamp"):
            return
        await self.delete_named(kind, obj["metadata"]["name"], uid=obj["metadata"].get("uid"))

    async def delete_named(self, kind: Kind, name: str, *, uid: str | None = None) -> None:
        try:
            await self._cluster.delete(kind, name, self._isvc["metadata"]["namespace"], uid=uid)
        except NotFound:
            return

    async def find(self, kind: Kind, name: str) -> Object | None:
        """Ask the cluster itself: the cache may be a moment behind."""
        try:
            return await self._cluster.get(kind, name, self._isvc["metadata"]["namespace"])
        except NotFound:
            return None

    # -- how -------------------------------------------------------------------------------

    @property
    def _is_beside(self) -> bool:
        annotations = self._isvc["metadata"].get("annotations") or {}
        return bool(annotations.get(names.ADOPTION) == names.BESIDE)

    async def _create(self, deployment: Object, replicas: int) -> Object:
        self._note(deployment)
        if replicas == 1:
            # What a Deployment is given that names no count.
            await self._cluster.apply(DEPLOYMENT, _stamp(deployment))
            return await self._claim(deployment, replicas)
        counted = copy.deepcopy(deployment)
        counted["spec"]["replicas"] = replicas
        await self._cluster.apply(DEPLOYMENT, _stamp(counted))
        await self._claim(deployment, replicas)
        return await self._cluster.apply(DEPLOYMENT, _stamp(deployment))

    async def _claim(self, deployment: Object, replicas: int) -> Object:
        metadata = deployment["metadata"]
        claim = {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.kind,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "spec": {"replicas": replicas},
        }
        return await self._cluster.apply(
            DEPLOYMENT, claim, field_manager=names.AUTOSCALER_MANAGER, force=True
        )

    def _note(self, obj: Object) -> Object:
        self.written.add((obj["kind"], obj["metadata"]["name"]))
        return obj

    def _cached(self, kind: Kind, obj: Object) -> Object | None:
        metadata = obj["metadata"]
        return self._cache.get(kind, metadata["namespace"], metadata["name"])

    def _check_owner(self, kind: Kind, live: Object) -> None:
        if is_owned(live, self._isvc):
            return
        name = live["metadata"]["name"]
        raise NameTaken(
            f"The {kind.kind} `{name}` is needed but belongs to something else.",
            fix=f"Delete it (kubectl delete {kind.plural} {name} -n"
            f" {live['metadata'].get('namespace')}), or give the InferenceService another name.",
        )


def _is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def _missing(kind: Kind, error: NotFound) -> Exception:
    """Why nothing can be written there: the namespace is gone, or nobody knows the kind."""
    if (error.details or {}).get("kind") == "namespaces":
        return error
    needed = "the Gateway API, which" if kind.group == GATEWAY_GROUP else f"what brings {kind},"
    return KindMissing(
        f"This cluster knows no {kind.kind} ({kind.group}/{kind.version}), which is needed.",
        fix=f"Install {needed} `kedge install` brings where it is missing."
        if kind.group == GATEWAY_GROUP
        else f"Install {needed} or leave out what needs it.",
    )


def _stamp(obj: Object) -> Object:
    return _with_annotation(obj, names.APPLIED_HASH, digest(obj))


def applied_hash(obj: Object) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(names.APPLIED_HASH, ""))


def _with_annotation(obj: Object, key: str, value: str) -> Object:
    metadata = obj["metadata"]
    annotations = {**(metadata.get("annotations") or {}), key: value}
    return {**obj, "metadata": {**metadata, "annotations": annotations}}


def _is_applied(live: Object, wanted: Object) -> bool:
    """Whether what was applied last is this, and nobody has changed it since."""
    return applied_hash(live) == applied_hash(wanted) and covers(live, wanted)


_QUANTITIES = frozenset({"limits", "requests", "sizeLimit", "averageValue"})
"""Fields whose values an API server writes in a form of its own: 0.5 becomes "500m"."""


def covers(live: Any, wanted: Any, *, quantity: bool = False) -> bool:
    """Whether `live` says everything that `wanted` says.

    What says nothing (false, zero, an empty text or list) is left out by an API server.
    """
    if live == wanted:
        return True
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            covers(live[key], value, quantity=quantity or key in _QUANTITIES)
            if key in live
            else not value
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(covers(a, b) for a, b in zip(live, wanted, strict=True))
        )
    return quantity and _is_same_quantity(live, wanted)


def _is_same_quantity(one: Any, other: Any) -> bool:
    try:
        return parse_quantity(str(one)) == parse_quantity(str(other))
    except ValueError:
        return False


def _replicas(deployment: Object) -> int:
    given = deployment["spec"].get("replicas")
    return 1 if given is None else int(given)


def _count_is_claimed(live: Object) -> bool:
    """Whether some other manager owns the count; unknown counts as yes."""
    fields = live["metadata"].get("managedFields")
    if not fields:
        return True
    return any(
        entry.get("manager") != FIELD_MANAGER
        and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
        for entry in fields
    )
