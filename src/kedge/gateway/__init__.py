"""HTTPRoutes, Services and EndpointSlices become the configuration of Envoy, the data path.

What lives here, in the order of the data: `routes` reads the objects into the small intermediate
form of `ir`, `translate` (with `matching`, `replies`, `listeners`) turns that into Envoy's
resources, `xds` keeps every connected Envoy at them, `status` says on each HTTPRoute whether a
request sent now is answered, and `gateway` is the loop around it all. `bootstrap` starts an Envoy.

Where a service may have no pod, `activation` is the place in Envoy where its requests wait,
`activator` decides which of them gets which pod (`revision` is what it knows of one service's),
`asking` is where Envoy asks, and `scout` asks coming pods whether they are ready. `demand` and
`traffic` read what Envoy counts; `shadow`, `comparing` and `agreement` compare the answers to
mirrored requests.

What does not: anything in the way of a request (that is Envoy alone), and who writes the
HTTPRoutes (the controllers). May import `reconcile`, `cluster.base`, `api`, `settings`, `lib`, and
it alone imports Envoy's protocol buffers.
"""
