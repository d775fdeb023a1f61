"""Things that know nothing of serving: the root of all errors, clocks, backoff, task groups.

A module belongs here when it could be a library of its own. It imports nothing of ours.
"""
