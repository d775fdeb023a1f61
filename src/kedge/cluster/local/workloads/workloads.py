"""Everything that runs the local cluster's workloads, started together."""

from __future__ import annotations

import asyncio

from kedge.cluster.base import Cluster
from kedge.cluster.local.workloads.autoscaling import HorizontalAutoscaler, PodUsage
from kedge.cluster.local.workloads.deployments import DeploymentController
from kedge.cluster.local.workloads.endpointslices import EndpointSliceController
from kedge.cluster.local.workloads.replicasets import ReplicaSetController
from kedge.cluster.local.workloads.scheduler import Scheduler
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile import Informers


class Workloads:
    """The controllers of workloads over one cluster.

    Args:
        informers: caches shared with others of this process; the caller runs them. Without, the
            workloads keep and run their own.
        usage: what pods use, for autoscalers; without, they keep to their bounds.
    """

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers | None = None,
        *,
        usage: PodUsage | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        shared = informers if informers is not None else Informers(cluster, clock)
        self._own_informers = shared if informers is None else None
        self._parts = (
            DeploymentController(cluster, shared, clock=clock),
            ReplicaSetController(cluster, shared, clock=clock),
            Scheduler(cluster, shared, clock=clock),
            EndpointSliceController(cluster, shared, clock=clock),
            HorizontalAutoscaler(cluster, shared, usage=usage, clock=clock),
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._own_informers is not None:
                tasks.create_task(self._own_informers.run(), name="workloads:informers")
            for part in self._parts:
                tasks.create_task(part.run(), name=type(part).__name__)
