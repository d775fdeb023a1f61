"""Names of Kedge's own objects on Kubernetes, by which its parts find each other."""

CONTROLLER = "kedge-controller"
"""The controllers' account, roles, Deployment and Lease."""
GATEWAY = "kedge-gateway"
"""The Gateway, and the gateway's account, roles, Deployment and Service for those outside."""
GATEWAY_LOCAL = "kedge-gateway-local"
"""The gateway's Service for pods, and by which its pods find each other."""
LOCAL_LISTENER = "local"
"""The listener of the Gateway that only pods reach: routes that are bound to it are not answered
outside the cluster."""
ADMISSION = "kedge"
"""The ValidatingWebhookConfiguration."""
WEBHOOK = "kedge-webhook"
"""The Service that the API server asks, and the Secret with its certificate."""
WEBHOOK_PATH = "/validate"
WEBHOOK_PORT = 9443
"""Of the pods; the Service has 443."""
