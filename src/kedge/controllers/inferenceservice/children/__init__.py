"""Builders of child objects: a component in, whole objects out.

Pure: no cluster, no clock, no environment. Owner references are set here; replica counts are not,
since another field manager owns them.
"""
