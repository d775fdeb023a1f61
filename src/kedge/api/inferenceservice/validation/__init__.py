"""What is refused about an InferenceService, and what is warned about.

`validate` runs every rule and reports all that is wrong, not only the first; the rules' modules
follow the parts of the spec they are about. They see objects whose types were already checked
(`kedge.api.schema`).
"""

from kedge.api.inferenceservice.validation.rules import validate

__all__ = ["validate"]
