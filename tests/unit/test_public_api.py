"""What `kedge` and its public packages promise: names, laziness, and how long an import takes."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import kedge
import kedge.client
import kedge.server
import kedge.testing

PUBLIC = {
    "kedge": ["__version__", "run"],
    "kedge.client": [
        "Access",
        "ControlClient",
        "InferenceClient",
        "InferenceError",
        "Kedge",
        "NotRunning",
        "RunningModel",
        "ServiceFailed",
        "Target",
        "TimedOut",
        "discover",
    ],
    "kedge.server": [
        "ArrayModel",
        "InferRequest",
        "InferResponse",
        "Model",
        "ModelMetadata",
        "ModelServer",
        "PredictorConfig",
        "Repository",
        "Tensor",
        "parser",
    ],
    "kedge.testing": ["EchoModel", "Refused", "ServedModels", "serve"],
}


@pytest.mark.parametrize("package", PUBLIC)
def test_exports_are_complete_and_resolve(package: str) -> None:
    module = sys.modules[package]
    assert sorted(module.__all__) == sorted(PUBLIC[package])
    assert sorted(dir(module)) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = module.nothing_of_the_kind


def test_everything_public_is_documented() -> None:
    for package in (kedge.client, kedge.server, kedge.testing):
        for name in package.__all__:
            assert inspect.getdoc(getattr(package, name)), name
    assert inspect.getdoc(kedge.run)


def test_importing_kedge_is_light() -> None:
    """What makes it quick: next to nothing is imported until it is used."""
    script = (
        "import sys; before = set(sys.modules); import kedge; more = set(sys.modules) - before;"
        "print(len(more));"
        "print(sorted({'numpy', 'grpc', 'aiohttp', 'typer', 'sklearn'} & more))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    modules, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert int(modules) < 100
