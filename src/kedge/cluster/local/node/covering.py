"""What a volume hides: mounted over /tmp, it covers all that the machine has there.

An image brings its programs in its own file system; here they are the machine's. What a container
needs of them, and lies below a mount point, is mounted back onto its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any


def uncovered(mounts: Sequence[dict[str, Any]], needed: Iterable[str]) -> list[dict[str, Any]]:
    """The mounts that put back what `mounts` would hide of `needed`, outermost folders alone."""
    targets = [str(mount["target"]) for mount in mounts]
    hidden = sorted(
        {
            path
            for path in map(os.path.abspath, filter(None, needed))
            if any(is_below(path, target) for target in targets) and os.path.exists(path)
        }
    )
    outermost = [path for path in hidden if not any(is_below(path, other) for other in hidden)]
    return [{"source": path, "target": path, "readonly": False} for path in outermost]


def is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
