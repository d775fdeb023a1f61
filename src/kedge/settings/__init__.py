"""Frozen, typed settings: every option has a type, a default and a sentence.

What lives here: the `inferenceservice-config` ConfigMap (`serving`), one machine's own options
(`local`) and the node agent's (`node`). The ConfigMap and the environment are read here and nowhere
else; who needs an option is handed the settings object.

What does not: defaults of a resource (`kedge.api`), and anything that acts. May import `lib`.
"""
