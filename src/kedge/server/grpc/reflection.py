"""gRPC server reflection: which services there are, and their messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

from kedge.protocol.errors import GrpcCode, InvalidInput
from kedge.protocol.open_inference import messages
from kedge.protocol.open_inference.descriptors import HEALTH, INFERENCE
from kedge.server.grpc.connection import Stream

PATHS = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)

_BY_NAME = ("file_by_filename", "file_containing_symbol")


async def reflect(
    call: Stream, requests: AsyncGenerator[memoryview, None]
) -> AsyncGenerator[bytes, None]:
    """Answers each question, in order."""
    files = _files()
    async for raw in requests:
        try:
            request = messages.ServerReflectionRequest.FromString(bytes(raw))
        except DecodeError as error:
            raise InvalidInput(f"The message is not a ServerReflectionRequest: {error}") from error
        yield _answer(request, files).SerializeToString()


def _files() -> list[descriptor_pb2.FileDescriptorProto]:
    sets = (descriptor_pb2.FileDescriptorSet.FromString(one) for one in (INFERENCE, HEALTH))
    return [file for one in sets for file in one.file]


def _answer(
    request: messages.ServerReflectionRequest, files: list[descriptor_pb2.FileDescriptorProto]
) -> messages.ServerReflectionResponse:
    answer = messages.ServerReflectionResponse(valid_host=request.host, original_request=request)
    kind = request.WhichOneof("message_request")
    if kind == "list_services":
        for file in files:
            for service in file.service:
                answer.list_services_response.service.add(name=f"{file.package}.{service.name}")
        return answer
    wanted = getattr(request, kind) if kind in _BY_NAME else str(kind)
    for file in files:
        if wanted in ((file.name,) if kind == "file_by_filename" else _symbols(file)):
            answer.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
            return answer
    answer.error_response.error_code = GrpcCode.NOT_FOUND
    answer.error_response.error_message = f"{wanted} is not known here."
    return answer


def _symbols(file: descriptor_pb2.FileDescriptorProto) -> set[str]:
    """Every name that the file declares, in full."""
    found = set()
    for service in file.service:
        found.add(f"{file.package}.{service.name}")
        found.update(f"{file.package}.{service.name}.{one.name}" for one in service.method)
    pending = [(file.package, message) for message in file.message_type]
    while pending:
        scope, message = pending.pop()
        name = f"{scope}.{message.name}"
        found.add(name)
        pending += [(name, nested) for nested in message.nested_type]
    return found
