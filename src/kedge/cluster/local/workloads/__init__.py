"""What makes pods of workloads and endpoints of pods, as kube-controller-manager does.

Here: Deployments (`deployments/`), ReplicaSets, EndpointSlices, the scheduler (`scheduler/`) and
HorizontalPodAutoscalers (`autoscaling/`); `workloads` lists them in one place. Not here: running a
pod, which is the node agent's; garbage and namespaces, which the local cluster looks after itself.
May import `reconcile`, `cluster.base`, `cluster.errors`, `api` and `lib`; reaches objects through
the `Cluster` contract only.

All but the autoscaler is driven by changes, never by polling: a Deployment's pod is scheduled a few
milliseconds after the Deployment was created.
"""

from kedge.cluster.local.workloads.workloads import Workloads

__all__ = ["Workloads"]
