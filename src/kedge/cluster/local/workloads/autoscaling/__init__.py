"""HorizontalPodAutoscalers on CPU and memory, as kube-controller-manager runs them.

`metrics` turns what pods use into a wanted number and `behavior` slows changes down; both pure.
`usage` is the port through which usage comes in, and its answer from /proc. `controller` joins
them: it reads usage, decides, and writes the scale sub-resource.
"""

from kedge.cluster.local.workloads.autoscaling.controller import HorizontalAutoscaler
from kedge.cluster.local.workloads.autoscaling.usage import PodUsage, ProcessUsage

__all__ = ["HorizontalAutoscaler", "PodUsage", "ProcessUsage"]
