"""The parts of Gateway API v1 that Kedge writes and reads: HTTPRoute, Gateway and GatewayClass."""
