"""The protocol's messages, in a descriptor pool of their own. Types are in `messages.pyi`."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from kedge.protocol.open_inference.descriptors import HEALTH, INFERENCE, REFLECTION

_pool = descriptor_pool.DescriptorPool()
for _source in (INFERENCE, HEALTH, REFLECTION):
    for _file in descriptor_pb2.FileDescriptorSet.FromString(_source).file:
        _pool.AddSerializedFile(_file.SerializeToString())
        for _message in _file.message_type:
            globals()[_message.name] = message_factory.GetMessageClass(
                _pool.FindMessageTypeByName(f"{_file.package}.{_message.name}")
            )
