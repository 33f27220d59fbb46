"""Repairs of rows: only what is certain changes, all else stays byte for byte."""

import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.formats import FORMATS
from app.datasets.formats.personal import find_personal
from app.datasets.formats.secrets import find_secrets
from app.datasets.repairs import REPAIRS, in_order
from app.datasets.repairs.base import Reading
from app.datasets.repairs.masks import without_personal, without_secrets
from app.datasets.repairs.names import role_meant
from app.datasets.repairs.passing import Change, Tally, repaired
from app.datasets.repairs.seen import Seen
from app.datasets.repairs.spelling import means

MESSAGES = Reading(FORMATS["messages"])
SHAREGPT = Reading(FORMATS["sharegpt"])
BOM = b"\xef\xbb\xbf"
USER = {"role": "user", "content": "Where is my parcel?"}
ANSWER = {"role": "assistant", "content": "It arrives tomorrow."}
KEY = "ghp_" + "a1B2" * 9
BLOCK = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nxy==\n-----END RSA PRIVATE KEY-----"


def row(*turns: Any, **more: Any) -> bytes:
    return json.dumps({"messages": turns, **more}, ensure_ascii=False).encode()


GOOD = row(USER, ANSWER)
OTHER = row(USER, {"role": "assistant", "content": "It was lost, sadly."})


def repair(content: bytes, *names: str, reading: Reading = MESSAGES) -> bytes:
    return passed(content, *names, reading=reading)[0]


def passed(
    content: bytes, *names: str, reading: Reading = MESSAGES
) -> tuple[bytes, Tally, list[Change]]:
    tally, changes = Tally(), list[Change]()
    pieces = repaired(
        io.BytesIO(content), in_order(names), reading=reading, tally=tally, told=changes.append
    )
    return b"".join(pieces), tally, changes


def lines(*rows: bytes) -> bytes:
    return b"".join(row + b"\n" for row in rows)


@pytest.mark.parametrize(
    ("names", "before", "after"),
    [
        ("bom", BOM + lines(GOOD), lines(GOOD)),
        ("bom blank_lines", BOM + b"\n" + lines(GOOD), lines(GOOD)),
        ("blank_lines", b"\r\n \t\n" + lines(GOOD, b"", OTHER), lines(GOOD, OTHER)),
        ("partial_line", lines(GOOD) + OTHER[:-9], lines(GOOD)),
        ("partial_line", lines(GOOD, OTHER[:-9]) + b"\n\n", lines(GOOD) + b"\n\n"),
        ("partial_line", lines(GOOD) + '{"a": "é'.encode()[:-1], lines(GOOD)),
        ("exact_duplicates", lines(GOOD, OTHER, GOOD, GOOD), lines(GOOD, OTHER)),
        (
            "exact_duplicates",
            lines(row(USER, ANSWER, id=1), b'{"id": 1, ' + GOOD[1:]),
            lines(row(USER, ANSWER, id=1)),
        ),
        ("bad_rows", lines(GOOD, b"{}", b"[1]", b"no", row(USER)), lines(GOOD)),
        (
            "role_names",
            lines(GOOD.replace(b'"user"', b'"human"').replace(b'"assistant"', b'"GPT"')),
            lines(GOOD),
        ),
        ("role_names", lines(GOOD.replace(b'"user"', b'" User "')), lines(GOOD)),
        ("role_names", lines(GOOD.replace(b'"assistant"', b'"asistant"')), lines(GOOD)),
        ("key_names", lines(GOOD.replace(b"messages", b"message")), lines(GOOD)),
        ("key_names", lines(GOOD.replace(b"messages", b"Mesages")), lines(GOOD)),
        ("key_names", lines(GOOD.replace(b'"content"', b'"text"')), lines(GOOD)),
        (
            "key_names role_names",
            lines(
                GOOD.replace(b"role", b"from")
                .replace(b"content", b"value")
                .replace(b"user", b"human")
            ),
            lines(GOOD),
        ),
        (
            "mask_secrets",
            lines(GOOD.replace(b"my parcel", KEY.encode())),
            lines(GOOD.replace(b"my parcel", b"[SECRET]")),
        ),
        (
            "mask_personal",
            lines(GOOD.replace(b"my parcel", b"kim@mail.org")),
            lines(GOOD.replace(b"my parcel", b"[EMAIL]")),
        ),
        (
            "bad_rows exact_duplicates role_names",
            lines(GOOD, GOOD.replace(b"user", b"human"), b"{}"),
            lines(GOOD),
        ),
    ],
)
def test_a_repair_mends_what_it_says(names: str, before: bytes, after: bytes) -> None:
    assert repair(before, *names.split()) == after
    assert repair(after, *names.split()) == after


@pytest.mark.parametrize(
    "content",
    [
        lines(GOOD.replace(b"user", b"customer")),
        lines(GOOD.replace(b'"user"', b"1")),
        lines(GOOD.replace(b'"messages"', b'"data"')),
        lines(
            GOOD.replace(b'"content"', b'"contents", "content"').replace(b'"contents"', b'"t"', 1)
        ),
        b'{"message": "Hello", "text": "x"}\n',
        lines(row({"role": "user", "text": "a", "value": "b"}, ANSWER)),
        lines(OTHER[:-9], GOOD),
        lines(GOOD) + OTHER,
        lines(b"{broken", GOOD) + b"{}}",
        GOOD + b"\r\n" + OTHER,
        b"",
        b"\n\n",
    ],
)
def test_what_is_not_certain_stays_byte_for_byte(content: bytes) -> None:
    names = ["role_names", "key_names", "partial_line", "mask_secrets", "mask_personal", "bom"]

    assert repair(content, *names) == content


def test_only_the_name_changes_whatever_the_spelling_of_the_rest() -> None:
    before = (
        b'{ "messages" :[{"content":"\\u0041\\/b","role": "Human" ,"x":1.50},  {"role":"bot"}]}\r\n'
    )

    after = repair(before, "role_names")

    assert after == before.replace(b'"Human"', b'"user"').replace(b'"bot"', b'"assistant"')


def test_sharegpt_keeps_its_own_names() -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello you"}]
    good = json.dumps({"conversations": turns}).encode()
    wrong = good.replace(b'"human"', b'"Human"').replace(b'"gpt"', b'"bot"')

    assert repair(good, *REPAIRS, reading=SHAREGPT) == good
    assert repair(wrong, "role_names", reading=SHAREGPT) == good


def test_a_mapped_column_keeps_the_name_of_the_file() -> None:
    reading = Reading(FORMATS["messages"], {"messages": "talk"})
    wrong = lines(b'{"talk": [{"role": "human", "content": "Hi"}], "messages": 1}')

    assert repair(wrong, "role_names", reading=reading) == wrong.replace(b"human", b"user")


def test_a_row_that_a_name_mends_is_no_bad_row_and_may_be_a_copy() -> None:
    after, tally, _ = passed(
        lines(GOOD, GOOD.replace(b"user", b"human"), OTHER.replace(b"user", b"human")),
        "role_names",
        "bad_rows",
        "exact_duplicates",
    )

    assert after == lines(GOOD, OTHER)
    assert dict(tally.changed) == {"role_names": 2}
    assert dict(tally.dropped) == {"exact_duplicates": 1}
    assert tally.kept == 2


def test_changes_are_told_with_their_line() -> None:
    _, _, changes = passed(lines(b"", GOOD, GOOD), "blank_lines", "exact_duplicates")

    assert changes == [
        Change("blank_lines", 1, b"", None),
        Change("exact_duplicates", 3, GOOD, None),
    ]


def test_a_row_above_the_limit_passes_unless_bad_rows_go() -> None:
    long = b'{"messages": "' + b"a" * (17 * 2**20) + b'"}'
    content = lines(GOOD, long) + long

    assert repair(content, "bom", "role_names", "exact_duplicates", "mask_secrets") == content
    assert repair(content, "bad_rows") == lines(GOOD)


SECRETS = st.sampled_from([KEY, "AKIA" + "Q" * 16, "sk-proj-" + "a1_B2" * 20, BLOCK, BLOCK[:60]])
PERSONAL = st.sampled_from(
    ["kim@mail.org", "+49 30 1234567", "4111 1111 1111 1111", "Tel +4915123456789"]
)
TEXTS = st.lists(
    st.text(max_size=12)
    | SECRETS
    | PERSONAL
    | st.sampled_from(['"', "\\", "\n", "é", "😀", "-----"]),
    max_size=6,
).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4).filter(_encodable), st.booleans())
def test_masking_leaves_valid_json_that_is_equal_elsewhere(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)

    for mask, found in (
        (without_secrets, lambda text: list(find_secrets(text))),
        (without_personal, find_personal),
    ):
        masked = mask(text)
        again = msgspec.json.decode(masked.encode())
        assert mask(masked) == masked
        _compare(value, again, found)


def _compare(before: Any, after: Any, found: Any) -> None:
    """Assert that only strings in which something was found have changed, and nothing is left."""
    if isinstance(before, dict):
        assert list(before) == list(after)
        for key, value in before.items():
            _compare(value, after[key], found)
    elif isinstance(before, list):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            _compare(one, other, found)
    elif isinstance(before, str):
        if not found(before):
            assert after == before
    else:
        assert after == before


ROWS = st.sampled_from(
    [
        GOOD,
        OTHER,
        GOOD.replace(b"user", b"human"),
        GOOD.replace(b"messages", b"message"),
        GOOD.replace(b"content", b"text"),
        GOOD.replace(b"my parcel", KEY.encode()),
        GOOD.replace(b"my parcel", b"kim@mail.org"),
        b"",
        b" \t",
        b"{}",
        b"not json",
        GOOD[:-7],
        b"\xff\xfe",
        GOOD + b"\r",
    ]
)


@given(st.lists(ROWS | st.binary(max_size=20), max_size=8), st.sets(st.sampled_from(list(REPAIRS))))
def test_repairs_are_done_once_and_leave_other_rows_alone(
    rows: list[bytes], names: set[str]
) -> None:
    content = b"\n".join(rows)

    after, tally, changes = passed(content, *names)

    again, second, _ = passed(after, *names)
    if "partial_line" not in names:  # what stood before it is last now
        assert again == after
        assert not second.changed
        assert not second.dropped
    assert sum(tally.changed.values()) + sum(tally.dropped.values()) == len(changes)
    if not changes:
        assert after == content


def test_roles_that_may_mean_several_stay() -> None:
    assert [role_meant(name) for name in ("customer", "agent", "", None, "function_call")] == [
        None
    ] * 5
    assert role_meant("function_call", "from") == "function_call"
    assert role_meant("USER", "from") == "user"
    assert role_meant("bot", "from") == "gpt"


def test_a_slip_is_one_letter_of_a_longer_word() -> None:
    assert all(
        means(word, "messages")
        for word in ("Messages", "mesages", "messaegs", "message", "massages")
    )
    assert not any(means(word, "messages") for word in ("massage", "data", "", "messagesss"))
    assert not means("rule", "role")


@given(st.lists(st.integers(1, 40).map(lambda number: number.to_bytes(16, "big")), max_size=3000))
def test_a_hash_is_new_once(digests: list[bytes]) -> None:
    seen, known = Seen(0), set[bytes]()

    for digest in digests:
        assert seen.add(digest) == (digest in known)
        known.add(digest)


def test_a_table_of_hashes_grows() -> None:
    seen = Seen(10)

    assert not any(seen.add(number.to_bytes(16, "little")) for number in range(1, 5000))
    assert all(seen.add(number.to_bytes(16, "little")) for number in range(1, 5000))
