"""The gate before the store: what is refused and what is warned about.

What lives here: the joining of `kedge.api`'s checks into one answer, for the webhook and the local
store alike. What does not: the rules, which belong to their kinds in `kedge.api`, and any I/O. May
import `api`, `cluster.errors`, `settings` and `lib`.
"""
