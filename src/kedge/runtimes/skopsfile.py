"""skops files: scikit-learn models without pickle. What they name is read before it is trusted.

skops itself makes only objects of types it knows to be harmless; others must be named by whoever
serves the model.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kedge.runtimes.pickles import PickleFacts
from kedge.runtimes.versions import installed_version
from kedge.server.errors import ModelLoadFailed

ENDING = ".skops"
TRUST_FLAG = "skops_trusted"

_SCHEMA = "schema.json"


def read_facts(path: Path) -> PickleFacts:
    """The types the file names, and the version of scikit-learn that trained the model."""
    classes: dict[str, dict[str, None]] = {}
    trained = ""
    for key, node in _nodes("", _schema(path)):
        if key == "_sklearn_version":
            trained = str(node.get("content", "")).strip('"')
        module, name = node.get("__module__"), node.get("__class__")
        if isinstance(module, str) and isinstance(name, str):
            classes.setdefault(module, {})[name] = None
    return PickleFacts(trained, {module: tuple(names) for module, names in classes.items()})


def load(path: Path, trusted: Sequence[str]) -> Any:
    installed_version("skops", "skops")
    import skops.io

    unknown = [
        one for one in skops.io.get_untrusted_types(file=str(path)) if one not in set(trusted)
    ]
    if unknown:
        allowed = ",".join([*trusted, *unknown])
        raise ModelLoadFailed(
            f"{path} holds types that skops does not know to be harmless: {', '.join(unknown)}.",
            fix=f"If you trust whoever made the file, add --{TRUST_FLAG}={allowed}.",
        )
    return skops.io.load(str(path), trusted=list(trusted))


def _schema(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(_SCHEMA))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ModelLoadFailed(
            f"{path} ({path.stat().st_size} bytes) is no complete skops file: {error}.",
            fix="Save the model again with skops.io.dump and check that the upload was complete.",
        ) from error


def _nodes(key: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the schema, with the key it stands under."""
    pending = [(key, node)]
    while pending:
        key, node = pending.pop()
        if isinstance(node, dict):
            yield key, node
            pending += node.items()
        elif isinstance(node, list):
            pending += [(key, one) for one in node]
