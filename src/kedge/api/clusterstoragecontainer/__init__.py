"""ClusterStorageContainer: the init container that brings model files of given URIs."""
