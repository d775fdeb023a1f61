"""Where objects live and pods run.

`base` is the contract, `kubernetes/` an API server reached over HTTP, `local/` a store, a
Kubernetes API façade, workload controllers and a node agent on this machine. Nothing here knows
what an InferenceService means. May import `api`, `settings` and `lib`; the local controllers also
run on the engine in `reconcile`, which in turn knows only `base` and `errors`. Only `modes` imports
a backend.
"""
