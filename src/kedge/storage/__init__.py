"""Bringing model files to a folder: `python -m kedge.storage SRC DEST [SRC DEST ...]`.

One module per way: `local` links, `http` downloads, `archives` unpacks what was brought. This runs
as a pod's init container, before there is a server, so it needs the standard library only. A file
has its final name only when it is complete. It may import `kedge.settings` and `kedge.lib`.
"""
