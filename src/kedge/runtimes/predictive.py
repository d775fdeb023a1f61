"""KServe's one server for several frameworks: `--framework` says which.

It is here so that KServe's `predictiveserver` manifests run with their arguments unchanged; whoever
writes a new one names the runtime itself.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from kedge.runtimes.flags import Flags
from kedge.server.model import Model
from kedge.server.options import Options

FRAMEWORKS = ("sklearn", "xgboost", "lightgbm")
ENDINGS = (".joblib", ".pkl", ".pickle", ".skops", ".bst", ".json", ".ubj")
FORKABLE = True


def flags() -> Flags:
    known = Flags("predictive")
    known.flag("framework", default="sklearn", choices=FRAMEWORKS)
    return known


def make(name: str, folder: Path, options: Options) -> Model:
    framework = flags().read(options).framework
    model: Model = import_module(f"kedge.runtimes.{framework}").make(name, folder, options)
    return model
