"""Pages for operators, and the page that a share link opens: server-rendered HTML with server-sent events.

Reads through gRPC and through `ops.watch`, and writes through gRPC only. No service depends on it.
"""
