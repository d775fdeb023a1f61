"""The node agent: turns the Pods of this machine into processes.

Here: the agent and a pod's life (`agent`, `pod`, `container`), the process that holds a pod
(`shim`) and the agent's end of its socket (`sandbox`), the processes that pods are forked from
warm (`templates`), what a container is given (`images`, `env`, `volumes`, `covering`, `tokens`,
`resources`, `cgroups`, `addresses`, `bindshim`), what is seen of it (`probes`, `health`,
`notices`, `starts`, `logs`, `processes`) and told (`status`, `unsupported`). The Node object
(`registration`), and what a node of a Kubernetes cluster needs besides: a network on this machine
(`loopback`), the addresses of Services (`services`), and who asks for logs (`peers`).

Not here: which pod runs on which node (`cluster.local` scheduler), where objects are stored, how
requests find a model. It speaks to the API through `cluster.base.Cluster` only, so it works as well
against a Kubernetes API server. May import `cluster.base`, `cluster.errors`, `api`, `settings` and
`lib`; what it needs of `reconcile` (caches, an event recorder) is handed in.
"""

from kedge.cluster.local.node.agent import NodeAgent
from kedge.cluster.local.node.host import Drains
from kedge.cluster.local.node.starts import Wakes

__all__ = ["Drains", "NodeAgent", "Wakes"]
