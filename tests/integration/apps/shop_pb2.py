"""What protoc would make of two small files; made by hand, so that no test needs protoc.

``shop/v1/shop.proto`` (proto3) has what honest services send, and one message with every kind of field.
``shop/old/old.proto`` (proto2) has required fields, closed enums, groups and extensions.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
ONE, MANY, MUST = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED, _Field.LABEL_REQUIRED
#: The scalars, by the names that .proto files give them.
SCALARS = (
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
    "sfixed64", "bool", "string", "bytes",
)  # fmt: skip
#: What a key of a map may be.
KEYS = tuple(name for name in SCALARS if name not in ("double", "float", "bytes"))


def _put(holder: Any, number: int, name: str, kind: str, label: int = ONE, *, oneof: int | None = None) -> Any:
    """Add one field; a kind with a dot is a message, with a colon an enum, with a plus a group."""
    field = holder.field.add(name=name, number=number, label=label)
    if kind[0] in ".:+":
        types = {".": _Field.TYPE_MESSAGE, ":": _Field.TYPE_ENUM, "+": _Field.TYPE_GROUP}
        field.type, field.type_name = types[kind[0]], f".{kind[1:]}"
    else:
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")
    if oneof is not None:
        field.oneof_index = oneof
    return field


def _map(holder: Any, number: int, name: str, key: str, value: str, path: str) -> None:
    entry = holder.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
    entry.options.map_entry = True
    _put(entry, 1, "key", key)
    _put(entry, 2, "value", value)
    _put(holder, number, name, f".{path}.{entry.name}", MANY)


def _enum(file: Any, name: str, **numbers: int) -> None:
    enum = file.enum_type.add(name=name)
    for label, number in numbers.items():
        enum.value.add(name=label, number=number)


def _new() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="shop/v1/shop.proto", package="shop.v1", syntax="proto3")
    file.dependency.append(any_pb2.DESCRIPTOR.name)
    _enum(file, "Kind", KIND_UNKNOWN=0, CARD=1, CASH=2, DEBT=-1)

    money = file.message_type.add(name="Money")
    _put(money, 1, "units", "int64")
    _put(money, 2, "currency", "string")

    charge = file.message_type.add(name="Charge")
    charge.oneof_decl.add(name="how")
    _put(charge, 1, "id", "string")
    _put(charge, 2, "amount", ".shop.v1.Money")
    _put(charge, 3, "items", ".shop.v1.Money", MANY)
    _map(charge, 4, "labels", "string", "string", "shop.v1.Charge")
    _put(charge, 5, "card", "string", oneof=0)
    _put(charge, 6, "iban", "string", oneof=0)
    _put(charge, 7, "deltas", "sint64", MANY)
    _put(charge, 8, "kind", ":shop.v1.Kind")
    _put(charge, 9, "rate", "double")
    _put(charge, 10, "extra", ".google.protobuf.Any")
    _put(charge, 11, "parent", ".shop.v1.Charge")
    _map(charge, 12, "per_day", "int32", ".shop.v1.Money", "shop.v1.Charge")
    _put(charge, 20, "note", "string")

    # As an older reader knows it: the last field was added later.
    earlier = file.message_type.add(name="ChargeBefore")
    _put(earlier, 1, "id", "string")
    _put(earlier, 2, "amount", ".shop.v1.Money")
    _put(earlier, 11, "parent", ".shop.v1.ChargeBefore")

    every = file.message_type.add(name="Everything")
    for index, kind in enumerate((*SCALARS, ":shop.v1.Kind", ".shop.v1.Everything"), 1):
        name = kind.rpartition(".")[2].lower()
        _put(every, index, f"one_{name}", kind)
        _put(every, 100 + index, f"many_{name}", kind, MANY)
        if index % 2 and kind not in ("string", "bytes") and kind[0] != ".":
            every.field[-1].options.packed = False  # as proto2 has it; readers take both
    for index, kind in enumerate(KEYS, 1):
        _map(every, 200 + index, f"by_{kind}", kind, "sint32", "shop.v1.Everything")
    _map(every, 240, "named", "string", ".shop.v1.Everything", "shop.v1.Everything")
    _map(every, 241, "kinds", "string", ":shop.v1.Kind", "shop.v1.Everything")

    # Every message of it takes as much room as it declares.
    wide = file.message_type.add(name="Wide")
    for index in range(1, 101):
        _put(wide, index, f"text_{index}", "string")
    crowd = file.message_type.add(name="Crowd")
    _put(crowd, 1, "members", ".shop.v1.Wide", MANY)
    _put(crowd, 2, "small", ".shop.v1.Money", MANY)
    _put(crowd, 3, "texts", "string", MANY)
    _put(crowd, 4, "numbers", "int64", MANY)
    _put(crowd, 5, "flags", "bool", MANY)
    _map(crowd, 6, "by_name", "string", "string", "shop.v1.Crowd")
    return file


def _old() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="shop/old/old.proto", package="shop.old", syntax="proto2")
    file.dependency.append(any_pb2.DESCRIPTOR.name)
    _enum(file, "State", NEW=0, OPEN=1, CLOSED=2, LOST=-3)
    order = file.message_type.add(name="Order")
    part = order.nested_type.add(name="Part")
    _put(part, 1, "name", "string", MUST)
    _put(part, 2, "part", "+shop.old.Order.Part")
    _put(order, 1, "id", "string", MUST)
    _put(order, 2, "part", "+shop.old.Order.Part", MANY)
    _put(order, 3, "state", ":shop.old.State")
    _put(order, 4, "states", ":shop.old.State", MANY)
    _put(order, 5, "line", ".shop.old.Line")
    _map(order, 6, "by_name", "string", ":shop.old.State", "shop.old.Order")
    _put(order, 7, "must_state", ":shop.old.State")
    _put(order, 8, "hidden", "+google.protobuf.Any")
    order.extension_range.add(start=100, end=200)
    line = file.message_type.add(name="Line")
    _put(line, 1, "number", "int32", MUST)
    _put(line, 2, "state", ":shop.old.State", MUST)
    note = file.extension.add(name="note", number=100, label=ONE)
    note.type, note.extendee = _Field.TYPE_STRING, ".shop.old.Order"
    return file


_pool: Any = descriptor_pool.Default()
for _file in (_new(), _old()):
    _pool.AddSerializedFile(_file.SerializeToString())


def _class(name: str) -> Any:
    made: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))
    made.__module__ = __name__  # as protoc has it, so that advice names the line to add
    return made


Money = _class("shop.v1.Money")
Charge = _class("shop.v1.Charge")
ChargeBefore = _class("shop.v1.ChargeBefore")
Everything = _class("shop.v1.Everything")
Wide = _class("shop.v1.Wide")
Crowd = _class("shop.v1.Crowd")
Order = _class("shop.old.Order")
Line = _class("shop.old.Line")
NOTE = _pool.FindExtensionByName("shop.old.note")
