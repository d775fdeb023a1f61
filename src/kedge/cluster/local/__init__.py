"""A cluster on this machine that clients cannot tell from Kubernetes.

`store/` keeps the objects, `registry` is the way of every write, `cluster` the `Cluster` contract
over both, `http/` a Kubernetes API for unmodified clients. Workload controllers, the scheduler and
the node agent live here too, and reach objects only through the contract. Nothing here knows what
an InferenceService means: what the API checks of it comes in through the `admission` port. May
import `api`, `settings` and `lib`; only `modes` (and `kedge.testing`) imports this package.
"""
