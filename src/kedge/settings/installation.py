"""Names of Kedge's own objects on Kubernetes, by which its parts find each other."""

CONTROLLER = "kedge-controller"
"""The controllers' account, roles, Deployment and Lease."""
ADMISSION = "kedge"
"""The ValidatingWebhookConfiguration."""
WEBHOOK = "kedge-webhook"
"""The Service that the API server asks, and the Secret with its certificate."""
WEBHOOK_PATH = "/validate"
WEBHOOK_PORT = 9443
"""Of the pods; the Service has 443."""
