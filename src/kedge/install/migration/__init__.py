"""What `kedge migrate` does: services that KServe (or KFServing before it) serves become Kedge's.

Here: what of KServe is in a cluster (`finding`), the plan for people (`planning`), its
configuration in Kedge's terms (`configuration`), switching its controller and webhooks off and on
again (`stopping`), and taking services over one by one (`adopting`), in the order of `migrating`.
Not here: what a service becomes and what speaks against it, which controllers and admission know
and `modes` passes in.

One service moves in four steps, so that at every moment something answers for it: Kedge's pods and
routes are made beside KServe's; once a request is answered by them, the Services that clients use
become Kedge's; KServe's own ways in are led to Kedge's gateway; only then KServe's pods go.
"""
