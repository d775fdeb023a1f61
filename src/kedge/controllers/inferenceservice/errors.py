"""What keeps an InferenceService from being built, with the words its status uses."""

from __future__ import annotations

from kedge.lib.errors import KedgeError, TerminalError


class BuildError(KedgeError):
    """A component cannot be built from what is there; tried again when something changes.

    Attributes:
        component: which component, as soon as it is known.
        model_reason: `modelStatus.lastFailureInfo.reason`, when the model's spec is to blame.
    """

    reason = "ReconcileFailed"
    model_reason: str | None = None
    component: str = ""


class InvalidSpec(BuildError, TerminalError):
    """The service's or runtime's own text is wrong; only an edit can mend it."""

    reason = "InvalidPredictorSpec"
    model_reason = "InvalidPredictorSpec"


class RuntimeNotRecognized(BuildError):
    """The named runtime does not exist."""

    reason = "RuntimeNotRecognized"
    model_reason = "RuntimeNotRecognized"


class RuntimeDisabled(BuildError):
    """The named runtime is switched off."""

    reason = "RuntimeDisabled"
    model_reason = "RuntimeDisabled"


class NoSupportingRuntime(BuildError):
    """No runtime serves that format, version and protocol."""

    reason = "NoSupportingRuntime"
    model_reason = "NoSupportingRuntime"


class InvalidStorage(BuildError):
    """The model's location or its credentials cannot be used."""

    reason = "InvalidStorage"


class MissingObject(BuildError):
    """An object that the service names is not there (yet)."""

    reason = "MissingObject"


class InvalidWorkerSpec(BuildError):
    """A multi-node service that does not add up."""

    reason = "InvalidWorkerSpec"


class Refused(BuildError):
    """The API does not take an object that was made of the service."""

    reason = "Refused"
