"""What the scan needs to know of a message type, read once from its descriptor: plain numbers and masks.

A descriptor is asked for its fields and nothing else: no pool, no name, no extension. What is not in it does not exist
for the scan, whatever another module may have registered with the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANY", "BODY", "Plan", "Row", "plan_of"]

#: The one type whose content is named by a message.
ANY = "google.protobuf.Any"


# Kinds of field, in the order in which the scan asks for them; plain numbers, because it asks once per field.
BYTES, STRING, MESSAGE, MAP, PACKED, ANY_TYPE, ANY_VALUE = range(7)
INT64, INT32, UINT32, BOOL, ENUM = range(10, 15)
FIXED32, FIXED64, FLOAT, DOUBLE = range(20, 24)
GROUP = 30
#: Added to the kind of a map's key.
KEY = 64

#: What stands behind one tag: the kind; the bit that may be set once in a message, which is the field's own or that of
#: its oneof, 0 for what may repeat; the type of a message, the kind of what is packed, or the numbers of a closed enum;
#: what a message costs, or whether a number is signed (0 not, 1 by two's complement, 2 by zigzag); of packed ones, the
#: numbers of their enum.
Row: TypeAlias = "tuple[int, int, Any, int, frozenset[int] | None]"


class Plan:
    """One message type.

    Attributes:
        name: Its full name.
        rows: Tag (field number and wire type, as they stand on the wire) to what follows it.
        fields: Field number to name.
        required: Bits that every message must have.
        extensions: Ranges of numbers that its descriptor leaves to extensions, as ``(first, behind the last)``.
        cost: How many values one message counts as beside itself: the library makes room for each declared field.
        is_any: Whether it is :data:`ANY`.
        entry: For an entry of a map, how a key that is left out would be spelled; ``None`` for other types.
        has_rules: Whether its end asks for something: what it requires, what an Any holds, the key of an entry.
    """

    __slots__ = ("cost", "entry", "extensions", "fields", "has_rules", "is_any", "name", "required", "rows")

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[int, Row] = {}
        self.fields: dict[int, str] = {}
        self.required = 0
        self.extensions: tuple[tuple[int, int], ...] = ()
        self.cost = 0
        self.is_any = name == ANY
        self.entry: bytes | None = None
        self.has_rules = False


# google.protobuf.FieldDescriptorProto.Type.
_T_STRING, _T_GROUP, _T_MESSAGE, _T_BYTES, _T_ENUM = 9, 10, 11, 12, 14
#: Of each scalar: wire type, kind, signedness.
_SCALARS = {
    1: (1, DOUBLE, 0),
    2: (5, FLOAT, 0),
    3: (0, INT64, 1),
    4: (0, INT64, 0),  # uint64
    5: (0, INT32, 1),
    6: (1, FIXED64, 0),
    7: (5, FIXED32, 0),
    8: (0, BOOL, 0),
    13: (0, UINT32, 0),
    _T_ENUM: (0, INT32, 1),
    15: (5, FIXED32, 1),
    16: (1, FIXED64, 1),
    17: (0, UINT32, 2),  # sint32
    18: (0, INT64, 2),  # sint64
}
_DEFAULT_KEYS = {0: b"\0", 1: bytes(8), 2: b"\0", 5: bytes(4)}
# A declared field takes eight bytes of every message, text and bytes sixteen; a value counts for some forty.
_FIELDS_PER_VALUE = 4

#: The Any that a body is; known without the library, which need not be there to refuse one.
BODY = Plan(ANY)
BODY.has_rules = True
BODY.fields = {1: "type_url", 2: "value"}
BODY.rows = {1 << 3 | 2: (ANY_TYPE, 1, None, 0, None), 2 << 3 | 2: (ANY_VALUE, 2, None, 0, None)}

_plans: WeakKeyDictionary[type, Plan] = WeakKeyDictionary()


def plan_of(cls: Any) -> Plan:
    """The plan of a generated message class; made once."""
    plan = _plans.get(cls)
    if plan is None:
        plan = _plans[cls] = _make(cls.DESCRIPTOR)
    return plan


def _make(root: Any) -> Plan:
    """Plans of a type and of every type that its fields lead to. Types may hold themselves, so a loop and a table."""
    made: dict[str, Plan] = {}
    todo = [root]

    def plan_for(descriptor: Any) -> Plan:
        plan = made.get(descriptor.full_name)
        if plan is None:
            plan = made[descriptor.full_name] = Plan(descriptor.full_name)
            todo.append(descriptor)
        return plan

    made[root.full_name] = Plan(root.full_name)
    for descriptor in todo:  # grows while it is walked
        plan = made[descriptor.full_name]
        plan.extensions = tuple((int(first), int(end)) for first, end in _extension_ranges(descriptor))
        bits: dict[str, int] = {}
        room = 0
        for field in descriptor.fields:
            plan.fields[field.number] = field.name
            room += 2 if field.type in (_T_STRING, _T_BYTES) else 1
            repeated, required = _labels(field)
            oneof = field.containing_oneof
            once = 0 if repeated else bits.setdefault(oneof.full_name if oneof else field.full_name, 1 << len(bits))
            if required:
                plan.required |= once
            for wire, row in _rows(field, repeated, once, plan_for):
                plan.rows[field.number << 3 | wire] = row
        plan.cost = room // _FIELDS_PER_VALUE
        if plan.is_any:
            plan.rows = BODY.rows
        elif descriptor.GetOptions().map_entry:
            tag, key = next((tag, row) for tag, row in plan.rows.items() if tag >> 3 == 1)
            plan.entry = _DEFAULT_KEYS[tag & 7]
            plan.rows[tag] = (key[0] + KEY, *key[1:])
        plan.has_rules = bool(plan.required) or plan.is_any or plan.entry is not None
    for plan in made.values():
        for tag, row in plan.rows.items():
            if row[0] in (MESSAGE, MAP, GROUP):
                plan.rows[tag] = (*row[:3], row[2].cost, None)  # known now
    return made[root.full_name]


def _rows(field: Any, repeated: bool, once: int, plan_for: Any) -> Iterator[tuple[int, Row]]:
    """The wire types in which a field may stand, and what it then is."""
    kind = field.type
    if kind in (_T_STRING, _T_BYTES):
        yield 2, (STRING if kind == _T_STRING else BYTES, once, None, 0, None)
    elif kind == _T_GROUP:
        yield 3, (GROUP, once, plan_for(field.message_type), 0, None)
    elif kind == _T_MESSAGE:
        is_map = repeated and field.message_type.GetOptions().map_entry
        yield 2, (MAP if is_map else MESSAGE, once, plan_for(field.message_type), 0, None)
    else:
        wire, number, signed = _SCALARS[kind]
        numbers = None
        if kind == _T_ENUM and field.enum_type.is_closed:
            numbers = frozenset(value.number for value in field.enum_type.values)
            number = ENUM
        yield wire, (number, once, numbers, signed, None)
        if repeated:
            # Readers take either spelling, whichever the type says.
            yield 2, (PACKED, 0, number, signed, numbers)


def _labels(field: Any) -> tuple[bool, bool]:
    """Whether a field is repeated, and whether required; by whichever attributes this release of the library has."""
    if hasattr(field, "is_repeated") and hasattr(field, "is_required"):
        return bool(field.is_repeated), bool(field.is_required)
    return field.label == 3, field.label == 2


def _extension_ranges(descriptor: Any) -> Iterator[tuple[int, int]]:
    if descriptor.is_extendable:
        yield from descriptor.extension_ranges
