"""`--workers N`: several processes that answer as one server.

A *parent* holds the listening sockets and hands each new connection to the *worker* that has the
fewest; a worker that is killed takes its own connections with it and none that wait. Where the
runtime allows, a *preloader* loads the models once and the workers are forked from it, so
that they share its memory; else each worker is the same command started again, and loads for
itself. `parent`, `preloader` and `member` are these three processes; `wire`, `board` and `door` are
what they say to each other: questions, numbers, connections.

It may import the rest of `kedge.server`, which knows of it only where a process starts.
"""
