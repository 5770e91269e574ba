"""`groupbuy-ops watch`: follows all topics and the committed offsets, and reports what an operator has to know.

Checks with the rules of ops.audit, incrementally and in bounded memory. Imports no service (an import contract in
pyproject.toml): it still reports when a service is dead, and shares no error with one.
"""
