"""Puts the objects into a cluster; the same steps install, repair and upgrade."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from kedge.api.scheme import CONFIG_MAP, NAMESPACE, Kind
from kedge.cluster.base import Object
from kedge.cluster.errors import (
    ApiError,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from kedge.install import names
from kedge.install.kinds import CUSTOM_RESOURCE_DEFINITION, INSTALLED, kind_of
from kedge.install.probing import Facts, Owner, check, check_rights, is_ours, probe
from kedge.install.render import parts
from kedge.install.target import INSTALLER, InstallError, Target, Tell, patiently
from kedge.install.values import Values
from kedge.install.waiting import Deadline, wait_established, wait_rolled_out
from kedge.lib.clock import SYSTEM_CLOCK, Clock

_VERBS = ("get", "list", "create", "patch", "delete")
_TRIES, _PAUSE = 8, 1.0


@dataclass
class Installation:
    """One run of `kedge install`.

    Attributes:
        seconds: the longest wait for everything together.
        done: how many objects were created, configured, replaced, unchanged, kept or removed.
    """

    cluster: Target
    values: Values
    tell: Tell
    seconds: float = 300.0
    clock: Clock = SYSTEM_CLOCK
    done: Counter[str] = field(default_factory=Counter)

    async def run(self, *, wait: bool = True) -> Facts:
        """Probe, apply, remove what an older release had besides, wait until all pods run."""
        deadline = Deadline(self.clock, self.seconds)
        facts = await probe(self.cluster, self.values.namespace)
        for line in facts.lines():
            self.tell(line)
        check(facts, self.values.namespace)
        wanted = self._wanted(facts)
        self.tell(describe_plan(wanted, self.values.namespace))
        await check_rights(self.cluster, wanted, _VERBS)
        await self._await_namespace(facts, deadline)
        for obj in wanted:
            await self._put(obj, facts)
            if obj["kind"] == CUSTOM_RESOURCE_DEFINITION.kind:
                await wait_established(self.cluster, obj["metadata"]["name"], deadline)
        await self._prune(wanted)
        self.tell(", ".join(f"{count} {word}" for word, count in sorted(self.done.items())))
        if wait:
            await wait_rolled_out(self.cluster, self.values.namespace, deadline, self.tell)
        return facts

    def _wanted(self, facts: Facts) -> list[Object]:
        """The objects, without definitions that are another's."""
        left_out = set()
        if facts.gateway_api is Owner.OTHER:
            self.tell("Gateway API is another's: its definitions stay as they are.")
            left_out.add("gateway-api-crds")
        if facts.serving is Owner.OTHER:
            self.tell("The definitions of serving.kserve.io are another's: they stay as they are.")
            left_out.add("crds")
        return [
            obj
            for part, objects in parts(self.values)
            if part.name not in left_out
            for obj in objects
        ]

    async def _await_namespace(self, facts: Facts, deadline: Deadline) -> None:
        """A namespace that is on its way out must be gone before it can be made anew."""
        name = self.values.namespace
        if facts.namespace != "Terminating":
            return
        self.tell(f"Namespace {name} is being removed; waiting until it is gone.")
        while True:
            try:
                now = await self.cluster.get(NAMESPACE, name)
            except NotFound:
                return
            remaining = "; ".join(
                condition.get("message", "")
                for condition in now.get("status", {}).get("conditions") or ()
                if condition.get("status") == "True"
            )
            await deadline.pause(
                f"Namespace {name} is still being removed. {remaining}".strip(),
                "Remove what holds it (its finalizers), then run kedge install again.",
            )

    async def _put(self, obj: Object, facts: Facts) -> None:
        kind, metadata = kind_of(obj), obj["metadata"]
        space = metadata.get("namespace")
        before = await self._get(kind, metadata["name"], space)
        if kind is CONFIG_MAP and before is not None:
            self._count("kept", kind, metadata["name"])  # It is the person's who edited it.
            return
        if kind is NAMESPACE and (before is None or facts.namespace_is_ours):
            marked = {names.MADE_NAMESPACE: "true"}
            obj = {**obj, "metadata": {**metadata, "annotations": marked}}
        if kind is CUSTOM_RESOURCE_DEFINITION and before is not None and not is_ours(before):
            self._count("kept", kind, metadata["name"])
            return
        after = await self._apply(kind, obj)
        if before is None:
            word = "created"
        elif before["metadata"]["uid"] != after["metadata"]["uid"]:
            word = "replaced"
        elif before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]:
            word = "unchanged"
        else:
            word = "configured"
        self._count(word, kind, metadata["name"])

    def _count(self, word: str, kind: Kind, name: str) -> None:
        self.done[word] += 1
        if word != "unchanged":
            self.tell(f"{kind.kind} {name}: {word}")

    async def _get(self, kind: Kind, name: str, namespace: str | None) -> Object | None:
        try:
            return await patiently(lambda: self.cluster.get(kind, name, namespace), self.clock)
        except NotFound:
            return None

    async def _apply(self, kind: Kind, obj: Object) -> Object:
        """Apply; what cannot be changed in place is made anew."""
        name, space = obj["metadata"]["name"], obj["metadata"].get("namespace")
        for attempt in range(_TRIES):
            try:
                return await self.cluster.apply(kind, obj, field_manager=INSTALLER)
            except Forbidden as error:
                raise InstallError(
                    f"{kind.kind} {name}: {error.message}",
                    fix="Run this as a cluster administrator, or have that right granted to you.",
                ) from error
            except Invalid as error:
                if attempt or not _is_immutable(error):
                    raise
                await self._delete(kind, name, space)
            except (Unavailable, TooManyRequests, NotFound) as error:
                # A definition's kind is served a moment after the definition is there.
                if attempt == _TRIES - 1:
                    raise
                self.tell(f"{kind.kind} {name}: {error.message}; trying again")
            await self.clock.sleep(_PAUSE)
        raise InstallError(
            f"{kind.kind} {name} could not be replaced in {_TRIES} tries.",
            fix="Look at its finalizers, and run kedge install again.",
        )

    async def _delete(self, kind: Kind, name: str, namespace: str | None) -> None:
        with contextlib.suppress(NotFound):
            await patiently(lambda: self.cluster.delete(kind, name, namespace), self.clock)

    async def _prune(self, wanted: Sequence[Object]) -> None:
        """Remove objects of this installation that this release has no more."""
        kept = {_identity(kind_of(obj), obj) for obj in wanted}
        for kind in INSTALLED:
            if kind in (NAMESPACE, CUSTOM_RESOURCE_DEFINITION):
                continue
            for obj in await list_installed(self.cluster, kind, self.values.namespace, self.clock):
                if _identity(kind, obj) not in kept:
                    metadata = obj["metadata"]
                    await self._delete(kind, metadata["name"], metadata.get("namespace"))
                    self._count("removed", kind, metadata["name"])


def describe_plan(wanted: Sequence[Object], namespace: str) -> str:
    """What there is to be, for people: how many of which kind."""
    counted = Counter(obj["kind"] for obj in wanted)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
    return f"To be there for namespace {namespace}: {len(wanted)} objects ({kinds})."


def _identity(kind: Kind, obj: Object) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return kind.kind, metadata.get("namespace", ""), metadata["name"]


def _is_immutable(error: ApiError) -> bool:
    return "immutable" in error.message or "cannot change roleRef" in error.message


async def list_installed(cluster: Target, kind: Kind, namespace: str, clock: Clock) -> list[Object]:
    """Objects of a kind that an installation made, wherever they are."""
    try:
        labels = f"{names.INSTALLATION}={namespace}"
        found = await patiently(lambda: cluster.list(kind, labels=labels), clock)
    except NotFound:
        return []  # The kind itself is not there.
    return found.items
