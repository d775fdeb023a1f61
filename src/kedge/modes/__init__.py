"""Composition roots: the only places that choose a backend and list the running parts in order.

`local` composes `kedge up`, `supervisor` is the small process that holds it together, `render`
runs the pure builders offline. May import every control-plane room; nothing imports `modes` but
`cli`.
"""
