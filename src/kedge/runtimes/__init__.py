"""One module per framework: files in, a `Model` out.

`kedge serve NAME` imports `kedge.runtimes.NAME` and calls its `make(options)`. A framework is
imported in `load()` only; what can be wrong with a model's files is checked before that, from the
files themselves, and told as a `ModelLoadFailed` with the evidence and the way out.

Runtimes do not import each other; `predictive` finds one by name. They may import `kedge.server`'s
public names, `kedge.protocol` and `kedge.lib`.
"""
