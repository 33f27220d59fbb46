"""Files that nobody sends on purpose: good ones of every container and format, bent and broken.

A file follows from its number alone, so that one which fails can be made again.
"""

import csv
import gzip
import io
import json
import random
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.unit.test_validation_cases import RAISES

if sys.version_info >= (3, 14):
    from compression import zstd  # pyright: ignore[reportMissingImports]
else:
    from backports import zstd

_CONTAINERS = ("jsonl", "jsonl", "jsonl", "json", "csv", "tsv", "parquet")
_CASES = [case for cases in RAISES.values() for case in cases if len(case) < 60_000]
_TEXTS = (
    "Where is my parcel?",
    "It arrives tomorrow, by noon.",
    "",
    " \n\t",
    "<|im_end|> [INST] </s>",
    "ghp_" + "a1B2" * 9,
    "kim.lee@firm.de, +49 30 901820-12, 4111 1111 1111 1111",
    "\u2028\u0085\ufeff\x00\x1b[31m\u202e😀é",
    'a "quoted", text; with\nlines',
    "=1+1",
    "word " * 300,
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n-----END PRIVATE KEY-----",
)
_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, 2**64, 1e308, "x", [], {}, [[]], [None], {"": ""}, {"a": {}},
)  # fmt: skip
_BYTES = (
    b"\n", b"\r", b"\r\n", b"\t", b"\0", b'"', b"{", b"}", b"[", b"]", b"{}", b",", b";", b"NaN",
    b"\\", b"\\u", b"\\ud800", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xed\xa0\x80",
    b"[" * 2000, b"9" * 400, b"-" * 40, b"PK\x03\x04", b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd",
)  # fmt: skip


def hostile(number: int) -> bytes:
    """Return the file of this number."""
    chance = random.Random(number)
    if chance.random() < 0.1:  # no file at all
        content = chance.randbytes(chance.choice([0, 1, 10, 1000, 70_000]))
    elif chance.random() < 0.2:  # known faults
        content = b"\n".join(chance.choices(_CASES, k=chance.randint(1, 6)))
    else:
        content = _written(chance, _rows(chance))
    if chance.random() < 0.6:
        content = _broken(chance, content)
    if chance.random() < 0.25:
        content = gzip.compress(content) if chance.random() < 0.5 else zstd.compress(content)
        if chance.random() < 0.4:
            content = _broken(chance, content)
    return content


def _rows(chance: random.Random) -> list[Any]:
    make = chance.choice([_messages, _messages, _sharegpt, _alpaca, _pair, _preference])
    rows = [make(chance) for _ in range(chance.choice([1, 2, 5, 60]))]
    if chance.random() < 0.2:
        rows += chance.choices(rows, k=2)
    if chance.random() < 0.1:
        rows.insert(chance.randrange(len(rows)), _alpaca(chance))
    return [_bent(chance, row) if chance.random() < 0.2 else row for row in rows]


def _text(chance: random.Random) -> str:
    return f"{chance.choice(_TEXTS)}{chance.randint(0, 99) if chance.random() < 0.7 else ''}"


def _messages(chance: random.Random) -> Any:
    roles = ["user", "assistant"] * chance.randint(1, 3)
    if chance.random() < 0.3:
        roles.insert(chance.randint(0, 1), chance.choice(["system", "tool", "user", "bot"]))
    turns: list[Any] = [{"role": role, "content": _text(chance)} for role in roles]
    if chance.random() < 0.2:
        calls = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
        turns[-1] = {"role": "assistant", "content": None, "tool_calls": calls}
    return {"messages": turns} | ({"id": chance.randint(0, 9)} if chance.random() < 0.3 else {})


def _sharegpt(chance: random.Random) -> Any:
    sides = ["human", "gpt"] * chance.randint(1, 2)
    return {"conversations": [{"from": side, "value": _text(chance)} for side in sides]}


def _alpaca(chance: random.Random) -> Any:
    history = [[_text(chance), _text(chance)]] if chance.random() < 0.3 else []
    names = ("instruction", "input", "output", "system")
    return {name: _text(chance) for name in names} | {"history": history}


def _pair(chance: random.Random) -> Any:
    return {"prompt": _text(chance), "completion": _text(chance)}


def _preference(chance: random.Random) -> Any:
    if chance.random() < 0.3:
        return {
            "prompt": _text(chance),
            "completion": _text(chance),
            "label": chance.random() < 0.5,
        }
    return {name: _text(chance) for name in ("prompt", "chosen", "rejected")}


def _bent(chance: random.Random, value: Any) -> Any:
    """Return a JSON value with something in it that does not belong there."""
    if chance.random() < 0.25 or not value or not isinstance(value, (dict, list)):
        return chance.choice(_ODD)
    if isinstance(value, list):
        place = chance.randrange(len(value))
        return [*value[:place], _bent(chance, value[place]), *value[place + 1 :]]
    key = chance.choice(list(value))
    if chance.random() < 0.2:
        rest = {name: part for name, part in value.items() if name != key}
        return rest | {chance.choice(["", "Role", "x" * 300, "messages"]): value[key]}
    return value | {key: _bent(chance, value[key])}


def _written(chance: random.Random, rows: list[Any]) -> bytes:
    container = chance.choice(_CONTAINERS)
    if container == "parquet":
        return _parquet(rows)
    if container in {"csv", "tsv"}:
        return _table(chance, rows, "," if container == "csv" else "\t")
    lines = [json.dumps(row, ensure_ascii=chance.random() < 0.5) for row in rows]
    end = chance.choice(["\n", "\n", "\r\n"])
    text = f"[{end}{f',{end}'.join(lines)}{end}]" if container == "json" else end.join(lines)
    return text.encode("utf-8", "replace") + chance.choice([b"", b"\n", b"\n\n"])


def _columns(rows: list[Any]) -> list[str]:
    objects = [row for row in rows if isinstance(row, dict)]
    return list(dict.fromkeys(str(key) for row in objects for key in row)) or ["prompt"]


def _table(chance: random.Random, rows: list[Any], separator: str) -> bytes:
    target = io.StringIO()
    writer = csv.writer(target, delimiter=separator, quoting=chance.choice([0, 1]))
    names = _columns(rows)
    writer.writerow(names)
    for row in rows:
        values = [row.get(name, "") if isinstance(row, dict) else row for name in names]
        writer.writerow(
            [value if isinstance(value, str) else json.dumps(value) for value in values]
        )
    return target.getvalue().encode("utf-8", "replace")


def _parquet(rows: list[Any]) -> bytes:
    target = io.BytesIO()
    objects = [row if isinstance(row, dict) else {} for row in rows]
    try:
        table = pa.Table.from_pylist(objects)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        table = pa.table({"messages": [json.dumps(row) for row in rows]})
    try:
        pq.write_table(table, target)
    except pa.ArrowException:
        return b"PAR1" + b"\0" * 40 + b"PAR1"
    return target.getvalue()


def _broken(chance: random.Random, content: bytes) -> bytes:
    """Return bytes of which some are changed, left out, doubled or put in."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        some = data[at : at + chance.randint(0, 40)]
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = chance.choice(_BYTES)
            case 1:
                data[at:at] = chance.choice(_BYTES)
            case 2:
                del data[at : at + len(some)]
            case 3:
                data[at:at] = some * chance.randint(1, 3)
            case _:
                del data[at:]
    return bytes(data)
