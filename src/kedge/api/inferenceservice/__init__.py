"""InferenceService: the one resource a user writes.

`types` what it may say, `defaults` what it means, `validation` what is refused or warned about,
`status` the verbs that report on it. What is built from it lives in `kedge.controllers`.
"""
