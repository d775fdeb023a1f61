"""ServingRuntime and ClusterServingRuntime: how a model format is served, written as data."""
