"""Joins what gateways say to those who want to know it."""

from __future__ import annotations

from kedge.autoscaler.autoscaler import Autoscaler
from kedge.autoscaler.wire import Counted, Message
from kedge.telemetry.telemetry import Telemetry


class Signals:
    """Who is told what gateways say: the autoscaler, but counts go to those who show them."""

    def __init__(self, autoscaler: Autoscaler, telemetry: Telemetry) -> None:
        self._autoscaler, self._telemetry = autoscaler, telemetry

    def connected(self, gateway: str) -> None:
        self._autoscaler.connected(gateway)

    def disconnected(self, gateway: str) -> None:
        self._autoscaler.disconnected(gateway)

    def take(self, gateway: str, message: Message) -> None:
        if isinstance(message, Counted):
            self._telemetry.take(message.seconds, message.revisions)
        else:
            self._autoscaler.take(gateway, message)
