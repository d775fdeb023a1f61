"""`kedge install` and `kedge uninstall`: which cluster they are about."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kedge.cluster.kubernetes import KubernetesCluster
from kedge.install.installing import Installation
from kedge.install.target import InstallError, Tell
from kedge.install.uninstalling import Removal
from kedge.install.values import Values
from kedge.install.verifying import verify
from kedge.install.waiting import Deadline
from kedge.lib.clock import SYSTEM_CLOCK


def find_kubeconfig(given: Path | None) -> Path:
    """The one given, else the first of `$KUBECONFIG`, else `~/.kube/config`."""
    if given is not None:
        return given
    named = [Path(one) for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one]
    chosen = named[0] if named else Path("~/.kube/config").expanduser()
    if not chosen.exists():
        raise InstallError(
            f"There is no kubeconfig at {chosen}.",
            fix="Name one by --kubeconfig or $KUBECONFIG.",
            reason="NotRunning",
        )
    return chosen


async def run_install(
    kubeconfig: Path | None,
    context: str | None,
    values: Values,
    tell: Tell,
    *,
    wait: bool,
    check: bool,
    seconds: float,
) -> None:
    """Install, wait until all pods run, and prove that a service answers."""
    async with KubernetesCluster.from_kubeconfig(find_kubeconfig(kubeconfig), context) as cluster:
        await Installation(cluster, values, tell, seconds).run(wait=wait)
        if wait and check:
            await verify(cluster, values, Deadline(SYSTEM_CLOCK, seconds), tell)


async def run_uninstall(
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    tell: Tell,
    *,
    keep_crds: bool,
    agree: Callable[[list[str]], bool],
    seconds: float,
) -> int:
    """Remove everything, if `agree` says so of the services that go with it; how many objects."""
    async with KubernetesCluster.from_kubeconfig(find_kubeconfig(kubeconfig), context) as cluster:
        removal = Removal(cluster, namespace, tell, keep_crds, seconds)
        services = [] if keep_crds else await removal.services()
        if services and not agree(services):
            raise InstallError(
                f"{len(services)} InferenceServices would be removed; nothing was done.",
                fix="Give --keep-crds to keep them, or --yes to remove them.",
            )
        return await removal.run()
