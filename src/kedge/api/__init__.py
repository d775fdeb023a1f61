"""What a resource is: its shape, defaults, validity and status verbs; one folder per kind.

Types are written once, as msgspec Structs that reuse lightkube's models of the core kinds; CRD
manifests and OpenAPI schemas are generated from them. No I/O, no clock. May import `settings` and
`lib`.
"""
