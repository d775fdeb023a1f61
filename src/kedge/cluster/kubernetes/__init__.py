"""A Kubernetes API server, or Kedge's own façade, reached over HTTP.

Here: where the server is and who we are there (`connection`), sending and the errors it answers
(`transport`, `answers`), and `cluster.base.Cluster` in terms of both (`cluster`). Not here: what
any object means. May import `cluster.base`, `cluster.errors`, `api` and `lib`. Why this is aiohttp
and not lightkube's client: docs/decisions/0003-kubernetes-client.md.
"""

from kedge.cluster.kubernetes.cluster import KubernetesCluster

__all__ = ["KubernetesCluster"]
