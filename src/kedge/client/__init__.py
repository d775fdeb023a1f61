"""The SDK: what people's programs and Kedge's own command line call.

What lives here: `control` (resources, over the Kubernetes API), `inference` (predictions over V1,
Open Inference and gRPC), `kubeconfig` (which API, as whom), `why` (the chain from a service to the
cause of its state), `models` and `run` (from a model to a running service), and `sync`, the same
without `await`.

What does not: rules about resources (`kedge.api`), and a Kubernetes client for controllers
(`kedge.cluster.kubernetes`): this one is for people, so it is small and its errors tell them what
to do. May import `cluster.base`, `cluster.errors`, `api`, `protocol`, `settings` and `lib`.

Names are imported on first use: aiohttp and grpcio take a while to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge.client.control import ControlClient
    from kedge.client.errors import InferenceError, NotRunning, ServiceFailed, TimedOut
    from kedge.client.inference import InferenceClient, Target
    from kedge.client.kubeconfig import Access, discover
    from kedge.client.run import RunningModel
    from kedge.client.sync import Kedge

_HOMES = {
    "Access": "kubeconfig",
    "ControlClient": "control",
    "InferenceClient": "inference",
    "InferenceError": "errors",
    "Kedge": "sync",
    "NotRunning": "errors",
    "RunningModel": "run",
    "ServiceFailed": "errors",
    "Target": "inference",
    "TimedOut": "errors",
    "discover": "kubeconfig",
}

__all__ = [
    "Access",
    "ControlClient",
    "InferenceClient",
    "InferenceError",
    "Kedge",
    "NotRunning",
    "RunningModel",
    "ServiceFailed",
    "Target",
    "TimedOut",
    "discover",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
