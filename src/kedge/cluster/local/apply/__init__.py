"""Server-side apply: who owns which field, and what an applied configuration changes.

`fieldset` holds sets of paths in Kubernetes' own JSON form, `compare` and `merge` walk objects by
their `Shape`, `ownership` keeps `metadata.managedFields`. Pure functions; the registry calls them.
"""

from kedge.cluster.local.apply.ownership import (
    Manager,
    apply_config,
    are_entries,
    own_applied,
    own_updated,
)

__all__ = ["Manager", "apply_config", "are_entries", "own_applied", "own_updated"]
