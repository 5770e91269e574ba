"""buf.validate: the environment's if a distribution has one, else our copy.

One process can't register two versions of a .proto file.
"""

try:
    from buf.validate import validate_pb2
except ImportError:
    from groupbuy.vendored import validate_pb2

__all__ = ["validate_pb2"]
