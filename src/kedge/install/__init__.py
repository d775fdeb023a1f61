"""The objects that make up an installation on Kubernetes, from one source.

Here: every object as pure builders. Not here: the processes that run in the installed pods, and how
a cluster is reached (`modes`). May import `cluster.base`, `cluster.errors`, `api`, `settings` and
`lib`.
"""
