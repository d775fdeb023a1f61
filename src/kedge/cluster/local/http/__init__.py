"""A Kubernetes API over HTTP, in front of the local cluster, for unmodified clients.

`facade` takes a request apart and hands it on: `reading`, `watching`, `writing`, `deleting`, `logs`
serve objects, `discovery`, `openapi` and `reviews` say what there is and what one may do,
`listeners` binds the sockets. The rules of the objects themselves are in `registry`.
"""

from kedge.cluster.local.http.facade import Facade
from kedge.cluster.local.http.listeners import Listeners

__all__ = ["Facade", "Listeners"]
