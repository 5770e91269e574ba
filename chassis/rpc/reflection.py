"""Server reflection with the comments of the protos, so that `grpcurl describe` prints the documentation.

Generated code has no comments. The descriptor set of the contract has them, and lies beside the code in a clone, in the
image and in the wheel.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import _async as reflection

log = structlog.stdlib.get_logger(__name__)

#: The whole contract, written by `make proto`.
DESCRIPTORS = Path(__file__).resolve().parents[2] / "protos" / "groupbuy.binpb"


class CommentedReflection(reflection.ReflectionServicer):  # type: ignore[misc] # the library has no types
    """gRPC's reflection service, with comments in the files of the contract."""

    def __init__(self, names: Iterable[str], descriptors: Path = DESCRIPTORS) -> None:
        """`names` are full names of services. Without `descriptors` the files have no comments."""
        super().__init__(names)
        self._comments = read_comments(descriptors)

    async def ServerReflectionInfo(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answers each request."""
        async for response in super().ServerReflectionInfo(requests, context):
            if response.HasField("file_descriptor_response"):
                files = response.file_descriptor_response.file_descriptor_proto
                # Two serialised messages in a row are one message with the fields of both.
                files[:] = [file + self._comments.get(FileDescriptorProto.FromString(file).name, b"") for file in files]
            yield response


@cache
def read_comments(descriptors: Path) -> dict[str, bytes]:
    """By file, a FileDescriptorProto with nothing but the comments, serialised. Empty if there is no such set."""
    try:
        files = FileDescriptorSet.FromString(descriptors.read_bytes()).file
    except (OSError, DecodeError) as error:
        log.warning("reflection has no comments", why=repr(error))
        return {}
    return {
        file.name: FileDescriptorProto(source_code_info=file.source_code_info).SerializeToString()
        for file in files
        if file.HasField("source_code_info")
    }
