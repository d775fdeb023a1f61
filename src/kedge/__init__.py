"""Kedge serves machine-learning models, on one machine and on Kubernetes."""

__version__ = "0.1.0"
