"""From traffic to replica counts: how many pods each Deployment gets, and why.

Here, from the inside out: averages of what the gateways report (`windows`), what a Deployment's
annotations ask for (`parameters`), how many pods the load needs (`kpa`), what follows for the
replicas, down to zero and back (`lifecycle`); all of these pure, with the time as an argument.
Around them: what the gateways have reported (`traffic`), the loop over every Deployment
(`autoscaler`), the stream on which gateways report (`wire`, `signals_server`, `signals_client`),
and what people are shown (`report`).

Not here: HorizontalPodAutoscalers and ScaledObjects (`controllers` write them, the cluster or KEDA
acts on them), and measuring traffic (`gateway`). May import `reconcile`, `cluster.base`, `api`,
`settings` and `lib`.
"""
