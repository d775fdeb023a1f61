"""Kubernetes' patch formats as pure functions: what was, and the patch, to what will be.

Nothing here knows of stores or versions. Server-side apply is in `apply`, since it also says who
owns a field.
"""

from kedge.cluster.local.patch.json_patch import apply_json_patch
from kedge.cluster.local.patch.merge_patch import apply_merge_patch
from kedge.cluster.local.patch.strategic import apply_strategic_patch

__all__ = ["apply_json_patch", "apply_merge_patch", "apply_strategic_patch"]
