"""What `kedge install` puts into a Kubernetes cluster, and how it gets there and away again.

Here: every object as pure builders over one set of `values` (`render`, `objects`), the same objects
as a Kustomize base and a Helm chart (`write`), and the steps of an installation against any
`cluster.base.Cluster` (`probing`, `installing`, `uninstalling`). Not here: the processes that run
in the installed pods, and how a cluster is reached (`modes`). May import `cluster.base`,
`cluster.errors`, `api`, `settings` and `lib`.
"""
