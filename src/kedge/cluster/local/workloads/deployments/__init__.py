"""Deployments: ReplicaSets by template, and the way from one to the next.

`controller` runs it; `rolling` is the arithmetic of a rolling update, `scaling` that of a change of
size in the middle of one, `revisions` finds and makes ReplicaSets and counts revisions, `progress`
turns counts into status and conditions. All but the controller is pure. Rules, reasons and
messages are Kubernetes', because `kubectl rollout` and people's scripts read them.
"""

from kedge.cluster.local.workloads.deployments.controller import DeploymentController

__all__ = ["DeploymentController"]
