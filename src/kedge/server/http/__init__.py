"""REST: V1 and Open Inference over HTTP/1.1.

`connection` is an asyncio protocol that answers predictions before any ASGI scope exists;
`inference` is the adapter it calls; `app` answers everything else and is imported, Starlette with
it, when first asked. `uvicorn`'s protocol carries both.
"""
