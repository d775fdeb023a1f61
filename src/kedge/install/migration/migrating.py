"""A whole migration: what will be done, and doing it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from kedge.api import legacy
from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT, LEASE
from kedge.cluster.base import Object
from kedge.cluster.errors import NotFound
from kedge.install import names
from kedge.install.migration.adopting import Adoption
from kedge.install.migration.configuration import Carried, carry_over, find_hosts, with_hosts
from kedge.install.migration.finding import Found, Served, find, find_services
from kedge.install.migration.planning import Foresee, Plan
from kedge.install.migration.stopping import Stopping, start_again
from kedge.install.objects.serving import make_configuration
from kedge.install.target import InstallError, Target, Tell
from kedge.install.values import Values
from kedge.install.waiting import Deadline
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.lib.errors import KedgeError
from kedge.settings.serving import CONFIG_MAP_NAME, ServingConfig

_MIGRATED = "serving.kedge.dev/migrated-from"
"""Annotation on Kedge's ConfigMap: whose choices it has; they are carried over once."""


@dataclass
class Migration:
    """One run of `kedge migrate`.

    Attributes:
        foresee: tells what a service will be under Kedge.
        seconds: the longest wait for one service, and for what comes before all.
        at_once: services that move at the same time.
        drain: seconds for which KServe's pods stay after nobody new is sent to them.
    """

    cluster: Target
    values: Values
    tell: Tell
    foresee: Foresee
    seconds: float = 600.0
    at_once: int = 1
    drain: float = 60.0
    clock: Clock = SYSTEM_CLOCK

    async def plan(self, only: Collection[str] = ()) -> Plan:
        """What is to be done; nothing is changed.

        Args:
            only: the services to take over, as `namespace/name`; all when empty.
        """
        found = await find(self.cluster, self.values.namespace)
        unknown = set(only) - {served.key for served in found.services}
        if unknown:
            raise InstallError(
                f"There is no InferenceService {', '.join(sorted(unknown))}.",
                fix="Name it as NAMESPACE/NAME.",
                reason="NotFound",
            )
        plan = Plan(found, self.values.namespace, await self._carried(found), only=tuple(only))
        config = ServingConfig.from_config_map({"data": plan.carried.data})
        for served in _newest(found.services):
            if served.is_adopted:
                plan.done += 1
            elif not only or served.key in only:
                isvc = legacy.convert(served.isvc)
                plan.services.append((served, await self.foresee(isvc, config, found)))
        return plan

    async def apply(self, plan: Plan, install: Callable[[], Awaitable[None]]) -> list[str]:
        """Do it; the services that could not be taken over, each with its reason.

        Args:
            install: brings Kedge where it is missing.
        """
        deadline = self._deadline()
        stopping = Stopping(self.cluster, self.tell, deadline)
        await stopping.run(plan.found)
        await stopping.hold(plan.found.services)
        if not await self._is_installed():
            await install()
        await self._configure(plan)
        await self._await_controller(deadline)
        failed = [
            f"{served.key}: {error}" for served, foresight in plan.services
            for error in foresight.errors[:1]
        ]  # fmt: skip
        now = {served.key: served for served in _newest(await find_services(self.cluster))}
        moving = [
            current
            for served, foresight in plan.services
            if not foresight.errors and (current := now.get(served.key)) is not None
        ]
        turns = asyncio.Semaphore(self.at_once)
        troubles = await asyncio.gather(*(self._adopt(served, turns) for served in moving))
        return [*failed, *filter(None, troubles)]

    async def undo(self) -> None:
        """Give the cluster back to KServe.

        Raises:
            InstallError: Kedge is still installed: both would reconcile the same services.
        """
        if await self._is_installed():
            raise InstallError(
                f"Kedge is installed in namespace {self.values.namespace}; both would reconcile the"
                " same services.",
                fix="kedge uninstall --keep-crds, then kedge migrate --undo.",
            )
        await start_again(self.cluster, self.tell)

    # -- how ----------------------------------------------------------------------------------

    def _deadline(self) -> Deadline:
        return Deadline(self.clock, self.seconds)

    async def _carried(self, found: Found) -> Carried:
        ours = await self._our_config() or make_configuration(self.values)[0]
        theirs = (found.config or {}).get("data") or {}
        if _MIGRATED in (ours["metadata"].get("annotations") or {}):
            theirs = {}
        carried = carry_over(theirs, ours.get("data") or {})
        if theirs:
            urls = [(s.name, s.namespace, s.url) for s in found.services]
            carried.data = with_hosts(carried.data, find_hosts(urls))
        return carried

    async def _our_config(self) -> Object | None:
        try:
            return await self.cluster.get(CONFIG_MAP, CONFIG_MAP_NAME, self.values.namespace)
        except NotFound:
            return None

    async def _configure(self, plan: Plan) -> None:
        """Carry KServe's choices over, once: later edits are a person's."""
        ours = await self._our_config()
        if plan.found.config is None or ours is None:
            return
        if _MIGRATED in (ours["metadata"].get("annotations") or {}):
            return
        metadata = plan.found.config["metadata"]
        origin = f"{metadata['namespace']}/{metadata['name']}"
        patch = {"metadata": {"annotations": {_MIGRATED: origin}}, "data": plan.carried.data}
        await self.cluster.patch(
            CONFIG_MAP, CONFIG_MAP_NAME, patch, namespace=self.values.namespace
        )
        self.tell(f"ConfigMap {self.values.namespace}/{CONFIG_MAP_NAME}: has {origin}'s choices")

    async def _is_installed(self) -> bool:
        try:
            await self.cluster.get(DEPLOYMENT, names.CONTROLLER, self.values.namespace)
        except NotFound:
            return False
        return True

    async def _await_controller(self, deadline: Deadline) -> None:
        """Until one of Kedge's controllers works."""
        while True:
            try:
                lease = await self.cluster.get(LEASE, names.CONTROLLER, self.values.namespace)
            except NotFound:
                lease = {}
            if (lease.get("spec") or {}).get("holderIdentity"):
                return
            await deadline.pause(
                "Kedge's controller does not run yet.",
                f"kubectl describe pods -n {self.values.namespace}, and run kedge migrate again.",
            )

    async def _adopt(self, served: Served, turns: asyncio.Semaphore) -> str:
        """Take one service over in its turn; what went wrong, if anything did."""
        async with turns:
            adoption = Adoption(
                self.cluster, self.values, served, self.tell, self._deadline(), self.drain,
                self.clock,
            )  # fmt: skip
            try:
                await adoption.run()
            except KedgeError as error:
                trouble = f"{served.key}: {str(error).removeprefix(f'{served.key}: ')}"
                self.tell(trouble)
                return trouble
        return ""


def _newest(services: list[Served]) -> list[Served]:
    """One entry per service: the old group's as long as it is there."""
    found: dict[str, Served] = {}
    for served in services:
        if served.key not in found or served.is_legacy:
            found[served.key] = served
    return sorted(found.values(), key=lambda served: served.key)
