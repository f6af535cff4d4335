"""Write ``json_parsing.json`` and ``msgpack_parsing.json``: what our readers accept and refuse, a case for each reason.

Run ``python tests/vectors/make_parsing_vectors.py`` after a change; a test checks that the files are up to date. The
cases are our own. Where a public suite has a class of cases like one of them, ``like`` names a case of that suite, and
the table in ``docs/parsers.md`` must give that one the same code.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ACCEPTED = "accepted"

# (id, text, reason or "accepted", the suite's case of the same class, why)
JSON_CASES: list[tuple[str, bytes, str, str, str]] = [
    # what must be read
    ("empty-array", b"[]", ACCEPTED, "y_array_empty", "the smallest container"),
    ("spaced-array", b"\t[ 1 ,\r\n 2 ] ", ACCEPTED, "y_structure_whitespace_array", "all four kinds of white space, everywhere"),
    ("mixed-array", b'[null,1,"1",{}]', ACCEPTED, "y_array_heterogeneous", "values of every kind side by side"),
    ("lone-number", b"-7.25", ACCEPTED, "y_structure_lonely_negative_real", "a text need not be a container"),
    ("lone-string", b'"tea"', ACCEPTED, "y_structure_lonely_string", "likewise"),
    ("lone-true", b"true", ACCEPTED, "y_structure_lonely_true", "likewise"),
    ("line-at-the-end", b'["a"]\n', ACCEPTED, "y_structure_trailing_newline", "files end so"),
    ("empty-key", b'{"":0}', ACCEPTED, "y_object_empty_key", "the empty text is a key"),
    ("zero-in-key", b'{"a\\u0000b":1}', ACCEPTED, "y_object_escaped_null_in_key", "a NUL ends no text"),
    ("two-keys", b'{"a":1,"b":1}', ACCEPTED, "y_object", "different keys with one value are no repeat"),
    ("minus-zero", b"[-0]", ACCEPTED, "y_number_minus_zero", "an integer, which has no sign at zero"),
    ("minus-zero-real", b"[-0.0]", ACCEPTED, "y_number_double_close_to_zero", "a double, which has"),
    ("exponents", b"[1e2,1E+2,1e-2,1.5E2]", ACCEPTED, "y_number_real_capital_e_pos_exp", "each spelling of an exponent"),
    ("zero-exponent", b"[0e1]", ACCEPTED, "y_number_0e1", "zero may have one"),
    ("edges-of-64-bits", b"[18446744073709551615,-9223372036854775808]", ACCEPTED, "", "the widest integers there are"),
    ("largest-double", b"[1.7976931348623157e308]", ACCEPTED, "y_object_extreme_numbers", "the last number that is finite"),
    ("many-digits", b"[0.1000000000000000055511151231257827021181583404541015625]", ACCEPTED, "", "0.1 to the last bit"),
    ("short-escapes", b'["\\"\\\\\\/\\b\\f\\n\\r\\t"]', ACCEPTED, "y_string_allowed_escapes", "all eight"),
    ("surrogate-pair", b'["\\ud83d\\ude00"]', ACCEPTED, "y_string_accepted_surrogate_pair", "one character in two escapes"),
    ("escaped-backslash", b'["\\\\u0041"]', ACCEPTED, "y_string_double_escape_a", "a backslash and five letters, not an A"),
    ("noncharacter", "[\"\uffff\"]".encode(), ACCEPTED, "y_string_nonCharacterInUTF-8_U+FFFF", "Unicode text may hold it"),
    ("line-separator", "[\"\u2028\"]".encode(), ACCEPTED, "y_string_u+2028_line_sep", "a line end to JavaScript, text to JSON"),
    ("delete", b'["\x7f"]', ACCEPTED, "y_string_unescaped_char_delete", "the one control character that needs no escape"),
    ("brackets-in-text", b'["[{,:]}//"]', ACCEPTED, "y_string_comments", "structure inside of text is text"),
    # grammar: structure
    ("nothing", b"", "bad-json", "n_structure_no_data", "no value"),
    ("one-space", b" ", "bad-json", "n_single_space", "likewise"),
    ("two-values", b"1 2", "bad-json", "n_structure_number_with_trailing_garbage", "one value, and nothing behind it"),
    ("second-array", b"[][]", "bad-json", "n_structure_double_array", "likewise"),
    ("comma-at-the-end", b"[1,]", "bad-json", "n_array_extra_comma", "JavaScript reads it"),
    ("comma-in-object", b'{"a":1,}', "bad-json", "n_object_trailing_comma", "likewise"),
    ("two-commas", b"[1,,2]", "bad-json", "n_array_double_comma", "a hole"),
    ("comma-first", b"[,1]", "bad-json", "n_array_missing_value", "a hole"),
    ("no-comma", b"[1 true]", "bad-json", "n_array_1_true_without_comma", "two values in one place"),
    ("colon-for-comma", b'["":1]', "bad-json", "n_array_colon_instead_of_comma", "an entry outside an object"),
    ("comma-for-colon", b'{"a","b":1}', "bad-json", "n_object_comma_instead_of_colon", "a key without a value"),
    ("no-key", b"{:1}", "bad-json", "n_object_missing_key", "a value without a key"),
    ("number-as-key", b"{1:1}", "bad-json", "n_object_non_string_key", "keys are text"),
    ("bare-key", b'{a:"b"}', "bad-json", "n_object_unquoted_key", "JavaScript reads it"),
    ("single-quotes", b"{'a':0}", "bad-json", "n_object_single_quote", "Python writes it"),
    ("array-open", b"[1", "bad-json", "n_structure_unclosed_array", "it breaks off"),
    ("object-open", b'{"a":', "bad-json", "n_structure_object_unclosed_no_value", "likewise"),
    ("text-open", b'["a', "bad-json", "n_structure_open_array_open_string", "likewise"),
    ("closed-wrongly", b"[1}", "bad-json", "", "another bracket than the one that is open"),
    ("closed-twice", b"[1]]", "bad-json", "n_array_extra_close", "more than was open"),
    ("comment", b"[1]/**/", "bad-json", "n_object_trailing_comment", "JSON has none"),
    ("line-comment", b'{"a":"b"}//', "bad-json", "n_object_trailing_comment_slash_open", "likewise"),
    ("vertical-tab", b"[\x0b1]", "bad-json", "n_array_spaces_vertical_tab_formfeed", "no white space of JSON's"),
    ("word-joiner", b"[\xe2\x81\xa0]", "bad-json", "n_structure_U+2060_word_joined", "nor any of Unicode's"),
    ("zero-byte", b"123\0", "bad-json", "n_multidigit_number_then_00", "C would stop reading there"),
    ("byte-order-mark", b"\xef\xbb\xbf1", "bad-json", "i_structure_UTF-8_BOM_empty_object", "some readers skip it, some do not"),
    ("mark-alone", b"\xef\xbb\xbf", "bad-json", "n_structure_UTF8_BOM_no_data", "and nothing behind it"),
    # grammar: words and numbers
    ("capital-word", b"True", "bad-json", "n_structure_capitalized_True", "Python's spelling"),
    ("half-a-word", b"[nul]", "bad-json", "n_incomplete_null", "it breaks off"),
    ("not-a-number", b"[NaN]", "bad-json", "n_number_NaN", "Python's json reads and writes it"),
    ("infinity", b"[-Infinity]", "bad-json", "n_number_minus_infinity", "likewise"),
    ("leading-zero", b"[012]", "bad-json", "n_number_with_leading_zero", "octal to some"),
    ("plus", b"[+1]", "bad-json", "n_number_+1", "no sign but minus"),
    ("point-first", b"[.5]", "bad-json", "n_number_starting_with_dot", "a digit stands before the point"),
    ("point-last", b"[2.]", "bad-json", "n_number_real_without_fractional_part", "and one behind it"),
    ("no-exponent", b"[1e]", "bad-json", "n_number_1.0e", "an e and nothing behind it"),
    ("hexadecimal", b"[0x10]", "bad-json", "n_number_hex_2_digits", "decimal alone"),
    ("underscore", b"[1_0]", "bad-json", "n_number_1_000", "Python's int reads it"),
    ("wide-digit", "[\uff11]".encode(), "bad-json", "n_number_U+FF11_fullwidth_digit_one", "Python's int reads it"),
    ("minus-alone", b"[-]", "bad-json", "n_array_just_minus", "no digit"),
    # grammar: text
    ("line-in-text", b'["a\nb"]', "bad-json", "n_string_unescaped_newline", "control characters are escaped"),
    ("tab-in-text", b'["\t"]', "bad-json", "n_string_unescaped_tab", "likewise"),
    ("unknown-escape", b'["\\x41"]', "bad-json", "n_string_escape_x", "not one of the nine"),
    ("short-escape", b'["\\u00A"]', "bad-json", "n_string_incomplete_escaped_character", "four digits"),
    ("wrong-digit", b'["\\u00g0"]', "bad-json", "n_string_invalid_unicode_escape", "that are hexadecimal"),
    ("escape-outside", b"[\\u0020]", "bad-json", "n_string_leading_uescaped_thinspace", "escapes stand in text"),
    # text
    ("latin-1", b'["\xe9"]', "bad-text", "i_string_iso_latin_1", "another encoding"),
    ("overlong", b'["\xc0\xaf"]', "bad-text", "i_string_overlong_sequence_2_bytes", "a second spelling of a slash"),
    ("encoded-surrogate", b'["\xed\xa0\x80"]', "bad-text", "i_string_UTF8_surrogate_U+D800", "half a character in UTF-8"),
    ("beyond-unicode", b'["\xf4\xbf\xbf\xbf"]', "bad-text", "i_string_not_in_unicode_range", "no such character"),
    ("cut-character", b'["\xe2\x82"]', "bad-text", "i_string_truncated-utf-8", "its last byte is missing"),
    ("first-half", b'["\\ud83d"]', "bad-text", "i_string_invalid_lonely_surrogate", "no UTF-8 for what was read"),
    ("second-half", b'["\\ude00"]', "bad-text", "i_string_lone_second_surrogate", "likewise"),
    ("halves-exchanged", b'["\\ude00\\ud83d"]', "bad-text", "i_string_inverted_surrogates_U+1D11E", "likewise"),
    ("half-a-key", b'{"\\ude00":1}', "bad-text", "i_object_key_lone_2nd_surrogate", "in a key as well"),
    ("utf-16", '["é"]'.encode("utf-16-le"), "bad-text", "i_string_utf16LE_no_BOM", "Python's json guesses; RFC 8259 says UTF-8"),
    ("broken-outside-text", b"[\xff]", "bad-text", "n_array_invalid_utf8", "wherever it stands"),
    ("broken-in-number", b"[1\xe5]", "bad-text", "n_number_invalid-utf-8-in-int", "likewise"),
    # what would be read as something else
    ("repeated-key", b'{"a":"b","a":"c"}', "duplicate-key", "y_object_duplicated_key", "some readers keep the first, some the last"),
    ("repeated-entry", b'{"a":1,"a":1}', "duplicate-key", "y_object_duplicated_key_and_value", "even if both say the same"),
    ("repeated-by-escape", b'{"a":1,"\\u0061":2}', "duplicate-key", "", "two spellings of one key"),
    ("repeated-deep", b'[[{"b":{"a":1,"a":2}}]]', "duplicate-key", "", "at any depth"),
    ("65-bits", b"[18446744073709551616]", "number-out-of-range", "i_number_too_big_pos_int", "orjson makes a double of it"),
    ("65-bits-below", b"[-9223372036854775809]", "number-out-of-range", "i_number_too_big_neg_int", "likewise"),
    ("overflow", b"[1e309]", "number-out-of-range", "i_number_real_pos_overflow", "Python's json makes infinity of it"),
    ("overflow-below", b"[-1e9999]", "number-out-of-range", "i_number_real_neg_overflow", "likewise"),
    ("overflow-in-digits", b"[1" + b"0" * 309 + b".0]", "number-out-of-range", "", "without an exponent"),
    ("endless-fraction", b"[0." + b"1" * 2000 + b"]", "number-out-of-range", "", "more digits than any double has"),
    ("underflow", b"[1e-400]", ACCEPTED, "i_number_real_underflow", "the nearest double is zero, as it is 0.1000...055 to 0.1"),
    # limits
    ("33-deep", b"[" * 33 + b"]" * 33, "too-deep", "i_structure_500_nested_arrays", "one more than data-only input may have"),
    ("deep-and-open", b"[" * 100_000, "too-deep", "n_structure_100000_opening_arrays", "counted before it is read"),
    ("deep-and-wide", b'[{"":' * 50_000, "too-many-nodes", "n_structure_open_array_object", "likewise"),
    ("20001-values", b"[" + b"0," * 20_000 + b"0]", "too-many-nodes", "", "one more than data-only input may have"),
    ("256-kib", b'"' + b"a" * (256 << 10) + b'"', "too-large", "", "likewise"),
]  # fmt: skip

MSGPACK_CASES: list[tuple[str, bytes, str, str, str]] = [
    ("nil", b"\xc0", ACCEPTED, "10.nil", ""),
    ("booleans", b"\x92\xc2\xc3", ACCEPTED, "11.bool", ""),
    ("bytes-8", b"\xc4\x02\x00\xff", ACCEPTED, "12.binary", "bytes stay bytes"),
    ("bytes-32", b"\xc6\0\0\0\x01a", ACCEPTED, "12.binary", "with a longer count than they need"),
    ("one-in-nine-ways", b"\x99\x01\xcc\x01\xcd\0\x01\xce\0\0\0\x01\xcf" + bytes(7) + b"\x01\xd0\x01\xd1\0\x01\xd2\0\0\0\x01\xd3" + bytes(7) + b"\x01",
     ACCEPTED, "20.number-positive", "each width of an integer"),
    ("below-zero", b"\x95\xff\xd0\xff\xd1\xff\xff\xd2\xff\xff\xff\xff\xd3" + b"\xff" * 8, ACCEPTED, "21.number-negative", "likewise"),
    ("float-of-an-integer", b"\xcb" + struct.pack(">d", 7), ACCEPTED, "20.number-positive", "stays a float"),
    ("floats", b"\x92\xca" + struct.pack(">f", 0.5) + b"\xcb" + struct.pack(">d", -0.5), ACCEPTED, "22.number-float", "both widths"),
    ("edges-of-64-bits", b"\x92\xcf" + b"\xff" * 8 + b"\xd3\x80" + bytes(7), ACCEPTED, "23.number-bignum", "the widest integers there are"),
    ("text-in-four-ways", b"\x94\xa1a\xd9\x01a\xda\0\x01a\xdb\0\0\0\x01a", ACCEPTED, "30.string-ascii", "each width of a count"),
    ("text-of-two-bytes", b"\xa2\xc3\xa9", ACCEPTED, "31.string-utf8", "UTF-8"),
    ("text-of-four-bytes", b"\xa4\xf0\x9f\x98\x80", ACCEPTED, "32.string-emoji", "likewise"),
    ("arrays", b"\x92\xdc\0\x01\x01\xdd\0\0\0\x01\x02", ACCEPTED, "40.array", "each width of a count"),
    ("maps", b"\x82\xa1a\x01\xa1b\xde\0\x01\xa1c\xdf\0\0\0\0", ACCEPTED, "41.map", "likewise"),
    ("int-keys", b"\x82\x01\x02\xff\x03", ACCEPTED, "", "text or integers"),
    ("nested", b"\x91\x81\xa1a\x91\x80", ACCEPTED, "42.nested", "containers in containers"),
    ("timestamp-32", b"\xd6\xff\0\0\0\x01", "unknown-tag", "50.timestamp", "it would come back as another type"),
    ("timestamp-64", b"\xd7\xff" + bytes(8), "unknown-tag", "50.timestamp", "likewise"),
    ("timestamp-96", b"\xc7\x0c\xff" + bytes(12), "unknown-tag", "50.timestamp", "likewise"),
    ("fixed-extension", b"\xd4\x01\x00", "unknown-tag", "60.ext", "plain data has none"),
    ("empty-extension", b"\xc7\x00\x06", "unknown-tag", "60.ext", "a tag outside its place is none either"),
    ("long-extension", b"\xc9\0\0\0\x01\x07a", "unknown-tag", "60.ext", "likewise"),
    ("never-used", b"\xc1", "bad-msgpack", "", "the one byte that starts nothing"),
    ("nothing", b"", "truncated", "", "no value"),
    ("array-cut", b"\x92\x01", "truncated", "", "an item is missing"),
    ("text-cut", b"\xa3ab", "truncated", "", "its last byte is missing"),
    ("count-cut", b"\xdd\0\0", "truncated", "", "half a count"),
    ("claim", b"\xdc\xff\xff\x01", "too-many-nodes", "", "65535 items in four bytes, which nothing is allocated for"),
    ("large-claim", b"\xdf\xff\xff\xff\xff", "too-many-nodes", "", "four billion entries in five bytes"),
    ("text-claim", b"\xdb\xff\xff\xff\xff", "string-too-long", "", "four billion bytes in five"),
    ("two-values", b"\x01\x02", "trailing-bytes", "", "one value, and nothing behind it"),
    ("latin-1", b"\xa1\xe9", "bad-text", "", "another encoding"),
    ("encoded-surrogate", b"\xa3\xed\xa0\x80", "bad-text", "", "half a character in UTF-8"),
    ("repeated-key", b"\x82\xa1a\x01\xa1a\x02", "duplicate-key", "", "some readers keep the first, some the last"),
    ("repeated-in-another-width", b"\x82\x01\x01\xcd\0\x01\x02", "duplicate-key", "", "two spellings of one key"),
    ("key-of-bytes", b"\x81\xc4\x01a\x01", "bad-msgpack", "", "keys are text or integers"),
    ("key-of-nil", b"\x81\xc0\x01", "bad-msgpack", "", "likewise"),
    ("key-of-a-float", b"\x81\xcb" + struct.pack(">d", 1) + b"\x01", "bad-msgpack", "", "which is 1 and is not"),
    ("key-of-a-boolean", b"\x81\xc3\x01", "bad-msgpack", "", "likewise"),
    ("not-a-number", b"\xcb\x7f\xf8" + bytes(6), "not-finite", "", "data-only input has none"),
    ("infinity-32", b"\xca\xff\x80\0\0", "not-finite", "", "in the short form as well"),
    ("33-deep", b"\x91" * 33 + b"\xc0", "too-deep", "", "one more than data-only input may have"),
    ("20001-values", b"\xdc\x4e\x20" + b"\xc0" * 20_000, "too-many-nodes", "", "the array is a value, too"),
    ("256-kib", b"\xdb\0\4\0\0" + b"a" * (256 << 10), "too-large", "", "five bytes more than data-only input may have"),
]  # fmt: skip


def vectors(cases: list[tuple[str, bytes, str, str, str]], read: Any) -> list[dict[str, object]]:
    """The cases as they are written; long ones as a text that repeats."""
    found: list[dict[str, object]] = []
    for name, data, said, like, why in cases:
        one: dict[str, object] = {"id": name, "said": said, "like": like, "why": why}
        if len(data) <= 200:
            one["hex"] = data.hex()
        else:
            one["make"] = _repeats(data)
        if said == ACCEPTED:
            one["value"] = repr(read(data))
        found.append(one)
    return found


def _repeats(data: bytes) -> list[list[object]]:
    """Pieces and how often each stands there: ``[["5b", 100000]]``."""
    pieces: list[list[object]] = []
    at = 0
    while at < len(data):
        best = (1, 1)
        for width in (1, 2, 5):
            unit, count = data[at : at + width], 1
            while unit and data.startswith(unit, at + count * width):
                count += 1
            if count > 1 and width * count > best[0] * best[1]:
                best = (width, count)
        width, count = best
        piece = data[at : at + width].hex()
        if count == 1 and pieces and pieces[-1][1] == 1:
            pieces[-1][0] = f"{pieces[-1][0]}{piece}"
        else:
            pieces.append([piece, count])
        at += width * count
    return pieces


def data_of(vector: dict[str, Any]) -> bytes:
    """The bytes of a case."""
    if "hex" in vector:
        return bytes.fromhex(vector["hex"])
    return b"".join(bytes.fromhex(piece) * count for piece, count in vector["make"])


def text(cases: list[dict[str, object]]) -> str:
    """The file."""
    lines = ",\n".join(json.dumps(one) for one in cases)
    return f'{{"cases": [\n{lines}\n]}}\n'


def main() -> None:
    import msgpack

    files = {
        "json_parsing.json": vectors(JSON_CASES, json.loads),
        "msgpack_parsing.json": vectors(MSGPACK_CASES, lambda data: msgpack.unpackb(data, strict_map_key=False)),
    }
    for name, cases in files.items():
        (HERE / name).write_text(text(cases), encoding="utf-8")
        print(f"{name}: {len(cases)}")


if __name__ == "__main__":
    main()
