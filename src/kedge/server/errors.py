"""Why a server does not start. Each is one line: what is wrong, where, and how to mend it."""

from __future__ import annotations

from kedge.lib.errors import KedgeError


class StartFailure(KedgeError):
    """The server cannot start."""

    reason = "StartFailed"

    def line(self) -> str:
        """The one line that goes to stderr and to the termination log."""
        return f"{self.reason}: {' '.join(str(self).split())}"


class ModelLoadFailed(StartFailure):
    """The model's files cannot be served."""

    reason = "ModelLoadFailed"


def out_of_memory() -> ModelLoadFailed:
    return ModelLoadFailed(
        "The model does not fit into this machine's or pod's memory.",
        fix="Raise limits.memory of the predictor, or serve a smaller model.",
    )


class ModelFileMissing(ModelLoadFailed):
    """The folder holds no file that the runtime takes for a model."""


class PortInUse(StartFailure):
    """Another process holds a port that the server was told to use."""

    reason = "PortInUse"


class BadUsage(StartFailure):
    """The command line asks for what cannot be."""

    reason = "BadUsage"
