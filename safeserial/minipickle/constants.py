"""The numbers of the machine: kinds, flags, rights and codes, each a plain int, and from where on it does what.

The compiled machine has them as constants of C, under the same names, in ``machine.pxd``: change both.
"""

from __future__ import annotations

__all__ = [
    "ALL_BITS",
    "BYTES_FOR_ONE",
    "BY_COPY",
    "BY_WORK",
    "CEILING",
    "COMPILED",
    "DEEPEST_TOKEN",
    "DEEP_KEY",
    "FEW_ARGUMENTS",
    "FEW_DIGITS",
    "FREE_LIST",
    "F_BARE",
    "F_BUILT",
    "F_CALL",
    "F_HELD",
    "F_INSTANCE",
    "F_NODES",
    "F_OPEN",
    "F_SEALED",
    "F_TAINT",
    "F_UNHASHABLE",
    "GROWN_INHERITED",
    "HIGH_BITS",
    "INHERITED",
    "KINDS",
    "K_BOOL",
    "K_BYTEARRAY",
    "K_BYTES",
    "K_CONSTANTS",
    "K_CONTAINERS",
    "K_DICT",
    "K_FROZENSET",
    "K_GLOBAL",
    "K_INSTANCE",
    "K_INT",
    "K_LIST",
    "K_NAMES",
    "K_RAW",
    "K_SET",
    "K_SPECIAL",
    "K_STR",
    "K_TUPLE",
    "LARGE_TABLE",
    "LONGEST_ESCAPE",
    "LONG_SPAN",
    "LOW_HALF",
    "LOW_TURNED",
    "MADE_COST",
    "MANY_SPELLINGS",
    "MAX_NAME_BYTES",
    "PART_COST",
    "PATTERN_INTS",
    "P_ANY",
    "P_CHARS",
    "P_DATA",
    "P_KIND",
    "P_OTHER",
    "R_BUILD",
    "R_CALL",
    "R_CLASS",
    "R_DATA_STATE",
    "R_DICT",
    "R_FLAT_STATE",
    "R_FRESH",
    "R_HASHABLE",
    "R_HASHES",
    "R_LIST",
    "R_NEW",
    "R_PLAIN_STATE",
    "R_REFERENCE",
    "R_SET",
    "R_SETSTATE",
    "SATURATED",
    "SHORT_FLOAT",
    "SHORT_TEXT",
    "SLACK",
    "SLOWEST",
    "SLOW_COMPARISON",
    "SMALL_SPARE_BYTES",
    "SMALL_TABLE",
    "SPARE_BYTES",
    "SPARE_RUNS",
    "SP_BASE",
    "SP_GETATTR",
    "SP_HOLDER",
    "SP_MAKER",
    "SP_NEWOBJ",
    "SP_NEWOBJ_EX",
    "SP_PARTIAL",
    "SP_READY",
    "SP_RECONSTRUCTOR",
    "SP_UNSET",
    "TEXT_COST",
    "TOKEN_COST",
    "TUPLE_LANE",
    "TUPLE_START",
    "TUPLE_TURNED",
]

# A node's head is its kind (bits of allow.Kind, and two more) and its flags, as one plain int: an enum member costs a
# call at each use, and a second table a store for each container.
K_BOOL, K_INT, K_STR, K_BYTES, K_BYTEARRAY = 2, 4, 16, 32, 64
K_TUPLE, K_LIST, K_DICT, K_SET, K_FROZENSET, K_INSTANCE = 128, 256, 512, 1024, 2048, 4096
K_GLOBAL, K_SPECIAL = 1 << 14, 1 << 15
KINDS = 0xFFFF
K_CONTAINERS = 128 | 256 | 512 | 1024 | 2048
K_NAMES = 3 << 14
K_RAW = 32 | 64
K_CONSTANTS = 4 | 16 | 32 | 64  # kinds of nodes that are constants, unless a call made them

F_TAINT = 1 << 16  # a class or function stands as a value in it
F_BARE = 1 << 17  # one of those may not be referenced: only a call's own arguments may hold it
F_UNHASHABLE = 1 << 18  # a list, dict, set, or something that holds one where hashing would look
F_INSTANCE = 1 << 19  # an instance, a frozenset, or a container with one in it: its hash is not a tuple's of constants
F_CALL = 1 << 20  # the result of a call, or a container that alone holds one
F_HELD = 1 << 21  # some other value holds it
F_OPEN = 1 << 22  # a fresh instance: items and state may follow
F_BUILT = 1 << 23  # its state is set
F_SEALED = 1 << 24  # it is some instance's state: growing it would set attributes unseen
F_NODES = 1 << 25  # holds more than constants
INHERITED = (1 | 2 | 4 | 8) << 16
GROWN_INHERITED = (1 | 8) << 16  # by what grows: it is not hashed, and what may not be referenced is refused at once

# Rights, as plain ints.
R_REFERENCE, R_CALL, R_NEW, R_BUILD, R_SETSTATE, R_FRESH = 1, 2, 4, 8, 16, 32
R_LIST, R_DICT, R_SET, R_CLASS, R_HASHABLE, R_HASHES = 64, 128, 256, 512, 1024, 2048
# Three rights that no policy grants: an instance's state is a dict of attributes, none of them reserved, and no listed
# references in it; it is any data at all; it is a dict of constants.
R_PLAIN_STATE, R_DATA_STATE, R_FLAT_STATE = 1 << 20, 1 << 21, 1 << 22

#: Globals with rules of their own. They are no policy: what they make is judged by the row of the class they get.
SP_GETATTR, SP_HOLDER, SP_BASE = 1, 2, 3
SP_RECONSTRUCTOR, SP_NEWOBJ, SP_NEWOBJ_EX = 4, 5, 6
# Below protocol 4, NEWOBJ_EX is ``functools.partial(cls.__new__, cls, *args, **keywords)()``, and the partial is made
# bare and then given its state. Each step is a node of its own kind, of no use for anything but the next one.
SP_PARTIAL, SP_MAKER, SP_UNSET, SP_READY = 7, 8, 9, 10

# Codes of argument patterns: any data; that or listed references; a kind, bounded or not; characters; all others, which
# match.py reads.
P_DATA, P_ANY, P_KIND, P_CHARS, P_OTHER = 1, 2, 3, 4, 5
# Integers for one pattern: code, kinds, whether it is bounded, low, high, number of the letters or the pattern.
PATTERN_INTS = 6

#: The compiled machine has 1 here.
COMPILED = False

LARGE_TABLE = 64  # probing.FEW
FREE_LIST = 256  # a set is made of a list of constants as long as this without a look at them
# What calls cost, where no number says it: as much as their arguments ask for, or as long as they are.
BY_WORK, BY_COPY = -1, -2
SLACK = 16  # zero bytes behind data that does not end with STOP, so that a look ahead needs no check of its own
MAX_NAME_BYTES = 255  # SHORT_BINUNICODE
LONGEST_ESCAPE = 6  # of a character in a text literal, but for those that take four bytes themselves
FEW_DIGITS = 600  # so many are converted whatever the process says about long ints
FEW_ARGUMENTS = 9  # arguments from here on are looked at once, however often they are passed
LONG_SPAN = 4096  # from here on a span of the input is referred to until the end instead of copied twice
HIGH_BITS = 0x8080808080808080  # of eight bytes; none of them is set where all are ASCII
#: What the hash of a tuple is made with (``Objects/tupleobject.c``, from 3.8 on, where a hash has 64 bits).
TUPLE_START, TUPLE_LANE, TUPLE_TURNED = 2870177450012600261, 14029467366897019727, 11400714785074694791
SHORT_TEXT, SHORT_FLOAT = 3, 40  # bytes that are decoded each time
DEEP_KEY = 8  # levels of a key from which on it costs their square
DEEPEST_TOKEN = 64  # levels of a key that are compared by recursion
LOW_HALF, LOW_TURNED, ALL_BITS = (1 << 32) - 1, (1 << 33) - 1, (1 << 64) - 1
SLOW_COMPARISON = 64  # what comparing a decimal with a float takes, in comparisons of ints
# What computing a hash takes, in comparisons: of an instance by each argument, or from the text or state that says it,
# and of a float as text; and what telling two keys of one hash apart takes.
PART_COST, MADE_COST, TEXT_COST, TOKEN_COST = 16, 80, 120, 48
SLOWEST = 1 << 28  # what one comparison may cost is added up no further: with all there may be, it still fits
SATURATED = 1 << 61  # a weight that is added up no further; two of them still fit
CEILING = (1 << 31) - 1  # of counts and offsets, so that the tables hold them, and products of two of them fit
SMALL_TABLE = 64  # lines in a new table
MANY_SPELLINGS = 4096
# Tables that are kept for the next run: small ones always, large ones until so many runs in a row had no use for them.
SMALL_SPARE_BYTES, SPARE_BYTES, SPARE_RUNS = 2 << 20, 28 << 20, 64
BYTES_FOR_ONE = 128  # what the tables may take for one byte of a stream
