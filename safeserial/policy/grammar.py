"""The grammar of one allow entry: text to data and back, with no import and no lookup of anything it names.

    entry    = target [ "(" patterns | whole ")" ] { word }
    target   = module ":" qualname                       exact names; no wildcard, regex or prefix exists
    patterns = [ pattern { "," pattern } [ "," ] ]       last may stand "*" (any further data arguments) or
                                                         "*" pattern (any further arguments that fit it)
    pattern  = literal | target | kinds | "data" | "any" | "(" patterns ")"
    whole    = "array" "[" ( "dtype" | "blank" | "scalar" | "buffer" ) "]"
                                                         all arguments of one of numpy's own calls, whose sizes must
                                                         agree: "array-call" in safeserial.allow
    literal  = str | bytes | int | float | True | False | None
    kinds    = kind { "|" kind } [ "[" [low] ".." [high] [ "of" str ] "]" ]
    word     = refer | only=refer | only=argument | returns=fresh
             | state=setstate | state=references | state=dtype | state=array | state=uuid

``builtins:getattr(pkg:Class, "name")`` is how protocols below 4 spell ``pkg:Class.name``, and is read as that.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from safeserial.allow import Arg, Kind, Signature
from safeserial.errors import Misconfigured

__all__ = ["KINDS", "WORDS", "Entry", "parse", "shown"]

#: What may follow an entry, and what it grants.
WORDS = {
    "refer": "it may also stand as a value: a default_factory, a class inside an argument or container",
    "only=refer": "it may stand as a value, and is never called or instantiated",
    "only=argument": "it may stand where another entry's pattern names it, and nowhere else",
    "state=setstate": "its own __setstate__ may be run on a fresh instance",
    "state=references": "its instance state may hold listed classes and functions",
    "state=dtype": "it takes exactly the state that numpy writes for a plain dtype",
    "state=array": "it takes numpy's state of an array, whose data must be exactly as long as its dtype and shape say",
    "state=uuid": "it takes the state of a UUID and nothing else: its number, and how safely it was made",
    "returns=fresh": "calling it returns a new object that nobody else holds, so state may follow",
}

#: Kind words, each the Python name of the type it stands for.
KINDS = {
    "None": Kind.NONE,
    "bool": Kind.BOOL,
    "int": Kind.INT,
    "float": Kind.FLOAT,
    "str": Kind.STR,
    "bytes": Kind.BYTES,
    "bytearray": Kind.BYTEARRAY,
    "tuple": Kind.TUPLE,
    "list": Kind.LIST,
    "dict": Kind.DICT,
    "set": Kind.SET,
    "frozenset": Kind.FROZENSET,
    "instance": Kind.INSTANCE,
    "buffer": Kind.BUFFER,
}

_CONSTANTS = {"True": True, "False": False}
_NO_COLON = "write package.module:Class, with a colon between the module and the name; a whole module cannot be listed"
_WHOLE = frozenset({"dtype", "blank", "scalar", "buffer"})
_ALONE = frozenset({"only=refer", "only=argument"})
_MAX_ENTRY_CHARS = 4096
_MAX_NESTING = 8
_GETATTR = "builtins:getattr"

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<word>[a-z]+=[a-z]+)
  | (?P<target>[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*)
  | (?P<bytes>b(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))
  | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<dots>\.\.)
  | (?P<float>-?[0-9]+(?:\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?|[eE][+-]?[0-9]{1,3}))
  | (?P<int>-?[0-9]+)
  | (?P<name>[^\W\d]\w*)
  | (?P<mark>[()\[\],*|])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"""\\(?:(?P<plain>[\\"'])|(?P<letter>[nrt])|x(?P<hex>[0-9a-fA-F]{2})|u(?P<uni>[0-9a-fA-F]{4})|(?P<bad>.))"""
)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One parsed allow entry.

    Attributes:
        text: As the operator wrote it.
        name: ``"module:qualname"`` of what it allows, after folding ``builtins:getattr``.
        signature: The argument pattern, or ``None`` where the entry has none.
        words: The rights in words, a subset of :data:`WORDS`.
        canonical: The one spelling that all equal entries share.
    """

    text: str
    name: str
    signature: Signature | None
    words: frozenset[str]
    canonical: str

    @property
    def module(self) -> str:
        """The module part of the name."""
        return self.name.partition(":")[0]

    @property
    def qualname(self) -> str:
        """The part of the name after the colon."""
        return self.name.partition(":")[2]


def shown(text: str) -> str:
    """An operator's own text for an error message: one line, printable, clipped, in quotes."""
    clipped = text if len(text) <= 160 else text[:157] + "..."
    return f'"{clipped.encode("unicode_escape").decode("ascii")}"'


def parse(text: str) -> Entry:
    """Read one allow entry.

    Args:
        text: For example ``'django.db.models.base:model_unpickle(("billing", "Invoice"))'``.

    Returns:
        The entry; nothing was imported, so the names in it may not exist.

    Raises:
        Misconfigured: The text is not an entry. The message says what to write instead.

    >>> parse("billing.models:Money state=setstate").canonical
    'billing.models:Money state=setstate'
    >>> parse('builtins:getattr(zoneinfo:ZoneInfo, "_unpickle")').name
    'zoneinfo:ZoneInfo._unpickle'
    """
    if type(text) is not str:
        raise Misconfigured(f"an entry is text such as 'package.module:Class', not {type(text).__name__}", key="allow")
    return _Parser(text).entry()


class _Parser:
    """Recursive descent over the tokens of one entry; nesting is bounded, so it cannot recurse away."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _MAX_ENTRY_CHARS:
            raise self.wrong(f"longer than {_MAX_ENTRY_CHARS} characters")
        self.tokens = self.split()
        self.at = 0

    def wrong(self, problem: str) -> Misconfigured:
        return Misconfigured(f"{shown(self.text)}: {problem}", key="allow")

    def split(self) -> list[_Token]:
        text = self.text
        # Said first, because these are what people try, and no token would explain them.
        bare = re.sub(r"""b?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\]|\\.)*'""", "''", text).partition("(")[0]
        if "*" in bare or "?" in bare:
            raise self.wrong(
                "wildcards are refused, because a package that adds a class must not widen a policy: "
                "list each name as package.module:Class"
            )
        if ":" not in bare:
            raise self.wrong(_NO_COLON)
        if "<" in bare:
            raise self.wrong("lambdas and names inside a function (<locals>) cannot be listed: move it to module level")
        tokens: list[_Token] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise self.wrong(f"unexpected {shown(text[at])} at character {at + 1}: write package.module:Class")
            if found.lastgroup != "space":
                tokens.append(_Token(found.lastgroup, found.group(), at))
            at = found.end()
        tokens.append(_Token("end", "", at))
        return tokens

    def peek(self, text: str = "") -> _Token | None:
        token = self.tokens[self.at]
        return token if not text or (token.kind in ("mark", "dots", "name") and token.text == text) else None

    def take(self, text: str) -> bool:
        if self.peek(text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            token = self.tokens[self.at]
            got = shown(token.text) if token.text else "the end"
            raise self.wrong(f'expected "{text}" at character {token.at + 1}, got {got}')

    def entry(self) -> Entry:
        token = self.tokens[0]
        if token.kind != "target":
            raise self.wrong(_NO_COLON)
        self.at = 1
        name = token.text
        glued = self.tokens[1].text == "(" and self.tokens[1].at == token.at + len(name)
        signature = None
        if glued:
            self.at = 2
            signature = self.patterns(0)
            if name == _GETATTR:
                name, signature = self.fold(signature)
                if self.take("("):
                    signature = self.patterns(0)
        elif name == _GETATTR:
            raise self.wrong(
                "getattr turns names into anything: write the one attribute that is meant, "
                'builtins:getattr(package.module:Class, "attribute")'
            )
        words = self.words()
        for word in sorted(words & _ALONE):
            if signature is not None or len(words) > 1:
                raise self.wrong(f'"{word}" stands alone: what is never called has no arguments, state or result')
        arguments = "" if signature is None else _show_signature(signature)
        canonical = " ".join([name + arguments, *sorted(words)])
        return Entry(self.text, name, signature, words, canonical)

    def words(self) -> frozenset[str]:
        words: set[str] = set()
        while (token := self.tokens[self.at]).kind != "end":
            if token.kind not in ("word", "name") or token.text not in WORDS:
                raise self.wrong(f"unexpected {shown(token.text)} after the name; the words are: {', '.join(WORDS)}")
            if token.text in words:
                raise self.wrong(f"{shown(token.text)} is said twice")
            words.add(token.text)
            self.at += 1
        return frozenset(words)

    def fold(self, signature: Signature) -> tuple[str, None]:
        args = signature.args
        if len(args) == 2 and signature.rest is None and args[0].op == "global" and args[1].op == "const":
            owner, attribute = args[0].value, args[1].value
            if type(attribute) is str and attribute.isidentifier():
                return f"{owner}.{attribute}", None
        raise self.wrong('write builtins:getattr(package.module:Class, "attribute"), a class and one attribute name')

    def patterns(self, depth: int) -> Signature:
        if depth > _MAX_NESTING:
            raise self.wrong(f"patterns are nested deeper than {_MAX_NESTING}")
        if depth == 0 and self.take("array"):
            return self.whole()
        args: list[Arg] = []
        rest = None
        while not self.peek(")"):
            if self.take("*"):
                rest = Arg("data") if self.peek(")") or self.peek(",") else self.pattern(depth)
                self.take(",")
                if not self.peek(")"):
                    raise self.wrong('"*" must be the last pattern')
                break
            args.append(self.pattern(depth))
            if not self.take(","):
                break
        self.expect(")")
        return Signature(tuple(args), rest)

    def whole(self) -> Signature:
        self.expect("[")
        token = self.tokens[self.at]
        if token.text not in _WHOLE:
            raise self.wrong(f"after array[ comes one of {', '.join(sorted(_WHOLE))}")
        self.at += 1
        self.expect("]")
        self.expect(")")
        return Signature((Arg("array-call", value=token.text),))

    def pattern(self, depth: int) -> Arg:
        token = self.tokens[self.at]
        if token.kind == "mark" and token.text == "(":
            self.at += 1
            inner = self.patterns(depth + 1)
            if inner.rest is not None:
                raise self.wrong('"*" cannot stand inside a tuple pattern: write tuple')
            return Arg("tuple", value=inner.args)
        self.at += 1
        if token.kind == "target":
            return Arg("global", value=token.text)
        if token.kind == "text":
            return Arg("const", value=self.unquote(token.text))
        if token.kind == "bytes":
            return Arg("const", value=self.unquote_bytes(token.text[1:]))
        if token.kind == "int":
            return Arg("const", value=self.number(token))
        if token.kind == "float":
            return Arg("const", value=self.real(token))
        if token.kind == "name":
            if token.text in _CONSTANTS:
                return Arg("const", value=_CONSTANTS[token.text])
            if token.text in ("data", "any"):
                return Arg(token.text)
            if token.text in KINDS:
                return self.kinds(token.text)
        got = shown(token.text) if token.text else "the end"
        raise self.wrong(
            f"{got} at character {token.at + 1} is no argument pattern: write a literal in quotes or digits, "
            f"package.module:Class, * (last), data, any, or one of {', '.join(KINDS)}"
        )

    def kinds(self, first: str) -> Arg:
        kinds = KINDS[first]
        single = True
        while self.take("|"):
            token = self.tokens[self.at]
            if token.kind != "name" or token.text not in KINDS:
                raise self.wrong(f'after "|" comes one of {", ".join(KINDS)}')
            kinds |= KINDS[token.text]
            single = False
            self.at += 1
        if kinds == Kind.NONE:
            return Arg("const", value=None)
        low = high = None
        if self.take("["):
            low = self.bound()
            self.expect("..")
            high = self.bound()
            if self.take("of"):
                return self.alphabet(single and first == "str", low, high)
            self.expect("]")
            if low is None and high is None:
                raise self.wrong("[..] bounds nothing: give a number before or after the dots")
            if low is not None and high is not None and low > high:
                raise self.wrong(f"[{low}..{high}] admits nothing")
        return Arg("kind", int(kinds), low, high)

    def alphabet(self, is_text: bool, low: int | None, high: int | None) -> Arg:
        token = self.tokens[self.at]
        if not is_text or low is not None or high is None or token.kind != "text":
            raise self.wrong('an alphabet is written str[..64 of "0123456789"], with an upper bound only')
        self.at += 1
        self.expect("]")
        return Arg("chars", int(Kind.STR), None, high, "".join(sorted(set(self.unquote(token.text)))))

    def bound(self) -> int | None:
        token = self.tokens[self.at]
        if token.kind != "int":
            return None
        self.at += 1
        return self.number(token)

    def number(self, token: _Token) -> int:
        digits = token.text.lstrip("-")
        if len(digits) > 40 or (digits != "0" and digits[0] == "0") or token.text == "-0":
            raise self.wrong(f"{shown(token.text)} is not a whole number in its plain spelling")
        return int(token.text)

    def real(self, token: _Token) -> float:
        value = float(token.text)
        if not math.isfinite(value):
            raise self.wrong(f"{shown(token.text)} is larger than any float")
        return value

    def unquote(self, quoted: str) -> str:
        def replace(found: re.Match[str]) -> str:
            if found["bad"]:
                raise self.wrong(
                    f"unknown escape \\{found['bad']}: the escapes are \\\\ \\\" \\' \\n \\r \\t \\xNN \\uNNNN"
                )
            if found["letter"]:
                return _LETTERS[found["letter"]]
            if found["plain"]:
                return found["plain"]
            return chr(int(found["hex"] or found["uni"], 16))

        return _ESCAPE.sub(replace, quoted[1:-1])

    def unquote_bytes(self, quoted: str) -> bytes:
        try:
            return self.unquote(quoted).encode("latin-1")
        except UnicodeEncodeError:
            raise self.wrong("a bytes literal holds characters up to \\xff only") from None


def _show_signature(signature: Signature) -> str:
    parts = [_show_arg(arg) for arg in signature.args]
    if signature.rest is not None:
        parts.append("*" if signature.rest.op == "data" else f"*{_show_arg(signature.rest)}")
    return f"({', '.join(parts)})"


def _show_arg(arg: Arg) -> str:
    value = arg.value
    if arg.op in ("data", "any"):
        return arg.op
    if arg.op == "global":
        return str(value)
    if arg.op == "array-call":
        return f"array[{value}]"
    if arg.op == "tuple":
        assert isinstance(value, tuple)
        return f"({', '.join(_show_arg(inner) for inner in value)})"
    if arg.op == "const":
        if isinstance(value, bytes):
            return "b" + _quote(value.decode("latin-1"))
        return _quote(value) if isinstance(value, str) else repr(value)
    names = "|".join(name for name, kind in KINDS.items() if arg.kinds & kind)
    if arg.op == "chars":
        return f"{names}[..{arg.high} of {_quote(str(value))}]"
    if arg.low is None and arg.high is None:
        return names
    return f"{names}[{'' if arg.low is None else arg.low}..{'' if arg.high is None else arg.high}]"


def _quote(text: str) -> str:
    # Written here rather than with repr(), whose idea of "printable" changes with Python's Unicode tables:
    # a policy's digest must not.
    out = []
    for char in text:
        if char in '\\"':
            out.append("\\" + char)
        elif " " <= char <= "~" or char > "\xff":
            out.append(char)
        else:
            out.append(f"\\x{ord(char):02x}")
    return '"' + "".join(out) + '"'
