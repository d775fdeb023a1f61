"""Kubernetes' pod and container types as a component inlines them.

A runtime fills in what a user leaves out, so what core/v1 requires is optional here: `containers`,
a container's `name`, the `port` of a probe. Everything else is lightkube's own.
"""

from __future__ import annotations

from typing import ClassVar

from lightkube.models import core_v1


class HTTPGetAction(core_v1.HTTPGetAction, kw_only=True, omit_defaults=True):
    """An HTTP GET probe.

    Attributes:
        port: port number or name; the container's first port when unset.
    """

    port: int | str | None = None  # type: ignore[assignment]  # optional here


class TCPSocketAction(core_v1.TCPSocketAction, kw_only=True, omit_defaults=True):
    """A probe that connects and closes.

    Attributes:
        port: port number or name; the container's first port when unset.
    """

    port: int | str | None = None  # type: ignore[assignment]  # optional here


class Probe(core_v1.Probe, kw_only=True, omit_defaults=True):
    """A check that a container is started, ready or alive.

    Attributes:
        httpGet: ready when a GET is answered with 200 to 399.
        tcpSocket: ready when the port accepts a connection.
    """

    httpGet: HTTPGetAction | None = None
    tcpSocket: TCPSocketAction | None = None


class ContainerFields(core_v1.Container, kw_only=True, omit_defaults=True):
    """A container of which every field is optional.

    Attributes:
        name: the container's name; the only or first container of a component without one becomes
            `kserve-container`.
        livenessProbe: the container is restarted when this fails.
        readinessProbe: the pod gets requests only while this succeeds.
        startupProbe: the other probes wait until this has succeeded once.
    """

    name: str | None = None  # type: ignore[assignment]  # optional here
    livenessProbe: Probe | None = None
    readinessProbe: Probe | None = None
    startupProbe: Probe | None = None


class PodSpecFields(core_v1.PodSpec, kw_only=True, omit_defaults=True):
    """A pod spec without required fields and without `ephemeralContainers`.

    Attributes:
        containers: containers of the pod; one named `kserve-container` is the component itself, the
            others run beside it.
    """

    omitted_fields: ClassVar[frozenset[str]] = frozenset({"ephemeralContainers"})

    containers: list[ContainerFields] | None = None  # type: ignore[assignment]  # optional here
