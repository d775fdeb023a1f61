"""Payload logging: what clients asked and what they were answered, told to someone else.

Records wait in a bounded queue and are sent by threads, as CloudEvents over HTTP or as lines of a
file. A prediction never waits for any of it: what does not fit is dropped, counted and said.
Imported by servers that are told to log payloads only. What is recorded is decided in
`kedge.server.observing`, which may import from here; nothing here knows a transport or a model.
"""
