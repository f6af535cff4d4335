"""Spells trees as JSON in every way that the grammar leaves open, and makes relatives of texts by whole tokens."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from fuzz import relatives
from fuzz.format_trees import NAMES, NUMBERS, TEXTS, Blob, Number, Pairs, Tagged
from fuzz.relatives import COMMON, LONGEST, Alphabet, common, flip

from safeserial.formats.typed import BY_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuzz.source import Source

__all__ = ["mutate", "soup", "spell", "split"]

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[A-Za-z]+|[ \t\r\n]+|.', re.DOTALL)
_SHORT = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\", "/": "\\/"}
_OPEN = {b"[": b"]", b"{": b"}"}


def _text(text: str, s: Source) -> bytes:
    """A string: what must be escaped is, the rest now and then."""
    out: list[bytes] = [b'"']
    busy = s.chance(20)
    for char in text:
        must = char in '"\\' or char < " " or "\ud800" <= char <= "\udfff"
        if not must and not (busy and s.chance(30)):
            out.append(char.encode())
        elif char in _SHORT and s.chance(60):
            out.append(_SHORT[char].encode())
        else:
            units = char.encode("utf-16-be", "surrogatepass")
            for i in range(0, len(units), 2):
                unit = f"\\u{int.from_bytes(units[i : i + 2], 'big'):04x}"
                out.append((unit.upper().replace("U", "u", 1) if s.chance(30) else unit).encode())
    out.append(b'"')
    return b"".join(out)


TOKENS: tuple[bytes, ...] = (
    b"[", b"]", b"{", b"}", b",", b":", b"[]", b"{}", b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity", b"-", b"+1", b"01",
    b".5", b"1.", b"1e", b"1e+", b"0x1", b"nul", b"True", b"//", b"/*", b"#", b"'a'", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\0", b"\x0b", b"\xc2\xa0", b'"', b"\\", b'\\"', b'"\\"', b'"\\u"', b'"\\ud800"', b'"\\ud83d\\ude00"',
    b'"\\udc00\\ud800"', b'"\\x41"', b'"\\u00g0"', b'"\t"', b'"\x1f"', b'"\xff"', b'"~"', b'"\\u007e"', b'"\\u007E"', b'"~":', b'{"~":[',
    *(b'"' + tag.encode() + b'"' for tag in BY_TAG),
    *(number.encode() for number in NUMBERS),
    *(b'"' + name.encode() + b'"' for name in NAMES),
)  # fmt: skip


def _space(s: Source) -> bytes:
    return s.pick((b"", b"", b"", b" ", b"\n", b"\t", b"\r\n", b"  "))


def spell(tree: Any, s: Source) -> bytes:
    """One way to write a tree."""
    spaced = s.chance(40)
    out: list[bytes] = []

    def put(piece: bytes) -> None:
        out.append(piece)
        if spaced:
            out.append(_space(s))

    def write(node: Any) -> None:
        if type(node) is list:
            put(b"[")
            for i, item in enumerate(node):
                if i:
                    put(b",")
                write(item)
            put(b"]")
        elif type(node) is Pairs:
            put(b"{")
            for i, (key, item) in enumerate(node.items):
                if i:
                    put(b",")
                put(_text(key, s) if type(key) is str else b'"' + _scalar(key, s).strip(b'"') + b'"')
                put(b":")
                write(item)
            put(b"}")
        elif type(node) is Tagged:
            write(Pairs([("~", [node.tag, node.payload])]))
        else:
            put(_scalar(node, s))

    write(tree)
    return b"".join(out)


def _scalar(value: Any, s: Source) -> bytes:
    if type(value) is str:
        return _text(value, s)
    if type(value) is Number:
        return value.text.encode()  # type: ignore[no-any-return]
    if type(value) is Blob:
        return b'"' + b64encode(value.data) + b'"'
    if value is None or type(value) is bool:
        return {None: b"null", True: b"true", False: b"false"}[value]
    if type(value) is float and value - value != 0.0:
        return b'{"~":["float","%b"]}' % repr(value).encode()
    return repr(value).encode()


def split(data: bytes) -> list[bytes]:
    """The tokens of a text, white space included; their sum is the text."""
    return _TOKEN.findall(data)


def _end(tokens: list[bytes], at: int) -> int:
    """Where the value that starts at a token ends."""
    depth = 0
    for i in range(at, len(tokens)):
        if tokens[i] in _OPEN:
            depth += 1
        elif tokens[i] in (b"]", b"}"):
            depth -= 1
        if depth <= 0:
            return i + 1
    return len(tokens)


def soup(s: Source) -> bytes:
    """Tokens in no order."""
    return b"".join(s.pick(TOKENS) for _ in range(s.below(30)))


def mutate(s: Source, data: bytes, others: Sequence[bytes]) -> bytes:
    """A relative of a text."""
    if s.chance(8):
        return flip(s, data, b"0")
    tokens = relatives.mutate(s, split(data), lambda tokens: _once(s, tokens, others))
    return b"".join(tokens)[:LONGEST] or soup(s)


def _once(s: Source, tokens: list[bytes], others: Sequence[bytes]) -> list[bytes]:
    at = s.below(len(tokens) or 1)
    end = _end(tokens, at) if s.chance(60) else min(len(tokens), at + s.pick((1, 1, 2, 4)))
    head, part, tail = tokens[:at], tokens[at:end], tokens[end:]
    kind = s.below(COMMON + 6)
    if kind < COMMON:
        return common(s, kind, (head, part, tail), others, _ALPHABET)
    kind -= COMMON
    if kind == 0:
        return head + [*part, b","] * s.pick((1, 1, 2, 20)) + part + tail
    if kind == 1:
        times = s.pick((1, 2, 8, 31, 32, 33, 255, 257))
        before, after = s.pick(
            ((b"[", b"]"), (b'{"a":', b"}"), (b'{"~":["tuple",[', b"]]}"), (b'{"~":["dict",[1,', b"]]}"))
        )
        return [*head, before * times, *part, after * times, *tail]
    if kind == 2:
        return [*head, b'{"~":["%b",' % s.pick(tuple(BY_TAG)).encode(), *part, b"]}", *tail]
    if kind == 3:
        is_text = part[:1] and part[0][:1] == b'"'
        return [*head, _text(s.pick(TEXTS), s) if is_text else s.pick(NUMBERS).encode(), *tail]
    if kind == 4:
        # The same key again, or another entry.
        return [*head, b'"%b"' % s.pick((b"a", b"~", b"\\u0061", b"id")), b":", b"1", b",", *part, *tail]
    return [*head, s.pick((b" ", b"\n", b"\t\t", b"\r")), *part, *tail]


_ALPHABET = Alphabet(TOKENS, split, _end, 30)
