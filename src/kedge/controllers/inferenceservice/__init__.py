"""InferenceService: Deployments, Services, autoscalers and HTTPRoutes out, status in.

The way of a resource: `defaults` (in `kedge.api`) fill it in, `runtime_selection` finds what can
serve the model, `assembly` makes each component's pod, `standard` or `knative` decides which
workloads there should be and which of them get traffic, `children/` builds the objects,
`reconcile` applies them, and `status`, `model_status` and `causes` tell what became of them.
"""
