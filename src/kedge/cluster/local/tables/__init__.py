"""What `kubectl get` shows: the server prints each kind into columns, as Kubernetes does."""

from kedge.cluster.local.tables.printing import TablePrinter, printer_of

__all__ = ["TablePrinter", "printer_of"]
