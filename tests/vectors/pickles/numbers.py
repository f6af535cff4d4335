"""Numbers: spellings that two readers read differently, and sizes that cost more than they show."""

from __future__ import annotations

import struct

from pickles.parts import Vector, bad, here

VECTORS: list[Vector] = [
    *(bad("number-spelling", 0, "bad-literal", why, here(op), b".") for why, op in (
        ("8 in C, an error in Python", b"I010\n"), ("8 in C, 10 elsewhere", b"I0010\n"), ("hexadecimal in C", b"I0x10\n"), ("upper case", b"I0X1F\n"), ("octal in Python", b"I0o17\n"), ("binary", b"I0b11\n"),
        ("an underscore", b"I1_0\n"), ("a leading blank", b"I 1\n"), ("a trailing blank", b"I1 \n"), ("a tab", b"I\t1\n"), ("a carriage return", b"I1\r\n"), ("a plus sign", b"I+1\n"), ("minus zero", b"I-0\n"),
        ("two signs", b"I--1\n"), ("nothing", b"I\n"), ("a sign alone", b"I-\n"), ("three digits of a bool", b"I001\n"), ("a bool with a blank", b"I01 \n"), ("a float", b"I1.0\n"), ("an exponent", b"I1e3\n"),
        ("a long's suffix", b"I1L\n"), ("a NUL behind it", b"I1\0\n"), ("Arabic digits, which Python's int takes", "I\u0663\n".encode()), ("full-width digits", "I\uff11\n".encode()), ("a word", b"ITrue\n"))),
    *(bad("number-spelling", 0, "bad-literal", why, here(op), b".") for why, op in (
        ("a plus sign", b"L+1L\n"), ("a leading zero", b"L01L\n"), ("hexadecimal", b"L0x1L\n"), ("two suffixes", b"L1LL\n"), ("a small suffix", b"L1l\n"), ("an underscore", b"L1_000L\n"), ("nothing", b"LL\n"), ("blanks", b"L 1L\n"))),
    *(bad("float-spelling", 0, "bad-literal", why, here(op), b".") for why, op in (
        ("hexadecimal", b"F0x1p3\n"), ("an underscore", b"F1_0.0\n"), ("a blank", b"F 1.0\n"), ("a plus sign", b"F+1.0\n"), ("no digit before the point", b"F.5\n"), ("none behind it", b"F5.\n"), ("a leading zero", b"F01.5\n"),
        ("a word", b"Finfinity\n"), ("a sign before nan", b"F+nan\n"), ("nan with a payload", b"Fnan(1)\n"), ("upper case", b"FNaN\n"), ("a comma", b"F1,5\n"), ("two points", b"F1.5.5\n"), ("nothing", b"F\n"), ("an exponent alone", b"Fe5\n"),
        ("500 digits", b"F" + b"9" * 500 + b"\n"), ("an exponent of six digits", b"F1e100000\n"))),
    *(bad("memo-number-spelling", 0, "bad-literal", why, b"Np0\n", here(op), b"\x86.") for why, op in (
        ("a blank", b"g 0\n"), ("a leading zero", b"g00\n"), ("a plus sign", b"g+0\n"), ("hexadecimal", b"g0x0\n"), ("an underscore", b"g0_0\n"), ("nothing", b"g\n"))),
    *(bad("memo-number-spelling", 0, "bad-literal", why, b"N", here(op), b".") for why, op in (
        ("a leading zero", b"p01\n"), ("a blank", b"p1 \n"), ("a word", b"px\n"), ("nothing", b"p\n"), ("an underscore", b"p1_0\n"))),
    *(bad("memo-number-spelling", 0, "memo-misuse", "below zero", *parts) for parts in ((b"N", b"p0\n", here(b"g-1\n"), b"\x86."),)),
    *(bad("signed-length", p, "bad-literal", "the length is signed: C reads it as negative", here(op), b".") for p, op in (
        (1, b"T\xff\xff\xff\xff"), (1, b"T\0\0\0\x80"), (2, b"\x8b\xff\xff\xff\xff"), (2, b"\x8b\0\0\0\x80"))),
    *(bad("quadratic-number", p, "number-out-of-range", "quadratic to convert", here(op), b".") for p, op in (
        (0, b"I" + b"9" * 12000 + b"\n"), (0, b"L" + b"9" * 12000 + b"L\n"), (0, b"L-" + b"9" * 12000 + b"L\n"), (0, b"I" + b"0" * 12000 + b"\n"), (2, b"\x8b\x88\x13\0\0" + b"\x01" * 5000), (2, b"\x8b\x09\x10\0\0" + b"\x7f" * 4105))),
    *(bad("quadratic-number", 4, "number-out-of-range", "more bits than allowed", here(op), b".", limits={"max_int_bits": 4}) for op in (
        b"K\xff", b"K\x10", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"J\0\0\0\x80", b"\x8a\x02\xff\x7f", b"I31\n", b"L31L\n", b"\x8b\2\0\0\0\xff\x7f")),
    bad("quadratic-number", 2, "number-out-of-range", "one bit more than allowed", here(b"\x8a\x06" + b"\x7f" * 6), b".", limits={"max_int_bits": 46}),
    bad("quadratic-number", 2, "number-out-of-range", "counted before it is read", here(b"\x8b\x10\0\0\0" + b"\1" * 16), b".", limits={"max_int_bits": 47}),
    bad("quadratic-number", 0, "number-out-of-range", "digits within reach, bits beyond it", here(b"I99999\n"), b".", limits={"max_int_bits": 16}),
    *(bad("not-finite", p, "not-finite", why, here(op), b".", limits={"allow_nan": False}) for p, why, op in (
        (4, "NaN", b"G\x7f\xf8" + bytes(6)), (4, "infinity", b"G\x7f\xf0" + bytes(6)), (4, "minus infinity", b"G\xff\xf0" + bytes(6)), (4, "a signalling NaN", b"G" + struct.pack(">Q", 0x7FF0000000000001)),
        (0, "infinity", b"Finf\n"), (0, "minus infinity", b"F-inf\n"), (0, "NaN", b"Fnan\n"))),
    *(bad("float-overflow", p, "number-out-of-range", "CPython raises OverflowError where float() says infinity", here(b"F" + digits + b"\n"), b".") for p, digits in ((0, b"1e999"), (1, b"-1e999"), (0, b"1" + b"0" * 399))),
    bad("memo-unwritten", 0, "memo-misuse", "a negative number, which CPython does not write", b"N", here(b"p-1\n"), b"."),
    bad("memo-unwritten", 0, "memo-misuse", "nor fetch", b"N", here(b"g-1\n"), b"."),
]  # fmt: skip
