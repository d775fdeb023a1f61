"""What became of requests, kept for a day and shown: `kedge top` and `/metrics`.

Here: what the gateways count (`counts`), summed by service and kept in a small database
(`history`, `telemetry`), and the two ways to read it (`exposition` for Prometheus, `http`). Not
here: measuring (`gateway`), deciding by it (`autoscaler`), and what models say of themselves
(`server`). May import `reconcile`, `cluster.base`, `api`, `settings` and `lib`.
"""
