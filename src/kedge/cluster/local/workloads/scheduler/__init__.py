"""Which node a pod runs on, and why on none.

`resources` counts what pods ask for, `fit` judges one node for one pod and `affinity` what pods
say about each other; both pure. `scheduler` binds, and tries again when something becomes free.
"""

from kedge.cluster.local.workloads.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
