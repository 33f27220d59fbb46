"""Secrets and personal data by their form, and the sieve that must pass over none of them."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.check.signs import rows_with_signs
from app.datasets.formats.personal import find_personal, hidden
from app.datasets.formats.secrets import FORMS, find_secrets, masked, secret_spans
from app.datasets.formats.text import text_findings
from app.datasets.problems import Code

PERSONAL = [
    "write to anna.schmidt@gmx.de.",
    "kim@mail.org",
    "j.doe+x@corp.co.uk please",
    "mailto:joe.s@proton.me",
    "call +49 30 1234567",
    "+4915123456789",
    "+44 20 7946 0958",
    "+1 212-456-7890",
    "+1 (212) 456-7890",
    "+33 6 12 34 56 78",
    "+49 (0)30 1234567",
    "(212) 456-7890",
    "card 4111 1111 1111 1111 ok",
    "3782 822463 10005",
    "5555-5555-5555-4444",
    "pay with 4242424242424242",
]
NOT_PERSONAL = [
    "info@acme.com",
    "a@example.org",
    "noreply@shop.com",
    "git@github.com:a/b.git",
    "https://joe:pass@host.com/",
    "x@y.transpose(1)",
    "@app.route",
    "package@1.2.3",
    "node@v18.x",
    "A@B.T",
    "2024-01-01",
    "+2024-01-01",
    "+1.234.567.890",
    "price +45.678.901",
    "v1.2.3+20240101",
    "+10000000",
    "+1 2 3 4 5",
    "+1 555 123 4567",
    "(555) 123-4567",
    "(see 2024) 100-2000",
    "@@ -1,5 +12,7 @@",
    "a+491512345678",
    "UTC+02:00",
    "x = +123456789012345678",
    "isbn 978-3-16-148410-0",
    "id 4111111111111111",
    "3.4111111111111111",
    "1234 5678 9012 3456",
    "4111 1111 1111 1112",
    "2024 2025 2026 2027",
    "0000 0000 0000 0000",
    "123e4567-e89b-12d3-a456-426614174000",
]
SECRETS = [
    "sk-proj-" + "a1_B2" * 20,
    "AKIA" + "Q7" * 8,
    "ghp_" + "a1B2" * 9,
    "dckr_pat_" + "a1B2c" * 5 + "xY",
    "pul-" + "0a" * 20,
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEvQIBADANBgkq\n",
    '"-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\\n"',
]
NO_SECRETS = [
    "A PEM file begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END CERTIFICATE-----",
    "pul-request sk-learn csk-short tskey-auth figd_ AGE-SECRET-KEY-1",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
]


@pytest.mark.parametrize("text", PERSONAL)
def test_personal_data_is_found_and_hidden_but_for_its_start(text: str) -> None:
    (one,) = find_personal(text)

    assert hidden(text) == text[: one.start + 2] + "•" * (one.end - one.start - 2) + text[one.end :]
    assert find_personal(hidden(text)) == []


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_what_looks_like_it_and_is_not_is_quiet(text: str) -> None:
    assert find_personal(text) == []


def test_a_notice_tells_what_and_where_and_never_the_whole() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "I am kim@mail.org or jo.b@mail.org, +4915123456789"}
        ],
        "metadata": {"author": "kim@mail.org"},
    }

    found = [one for one in text_findings(row) if one.code is Code.PERSONAL_DATA]

    assert [one.message for one in found] == [
        "turn 1 contains an e-mail address, ki… and 1 more",
        "turn 1 contains a phone number, +4…",
    ]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_found_whole(text: str) -> None:
    assert len(list(find_secrets(text))) == 1
    ((start, end),) = secret_spans(f"see {text} there")
    assert (start, end) == (4, 4 + len(text)) or text.startswith('"') or "\n" in text
    assert not list(find_secrets(masked(text)))


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_begins_alike_is_no_secret(text: str) -> None:
    assert list(find_secrets(text)) == []
    assert secret_spans(text) == []


KEYS = st.sampled_from(FORMS).flatmap(
    lambda form: st.from_regex(re.compile(form, re.ASCII), fullmatch=True)
)
AROUND = st.text(alphabet='ab .,:"\\\n/é-', max_size=12)


@given(AROUND, KEYS | st.sampled_from([*SECRETS, *PERSONAL]), AROUND, st.booleans())
def test_the_sieve_passes_over_nothing_that_would_be_found(
    before: str, text: str, after: str, ascii_only: bool
) -> None:
    content = f"{before} {text} {after}"
    raw = json.dumps({"messages": [{"role": "user", "content": content}]}, ensure_ascii=ascii_only)
    other = b'{"messages": []}\n'
    block = other + raw.encode() + b"\n" + other
    starts = np.array([0, len(other), len(block) - len(other)])

    if list(find_secrets(content)) or find_personal(content):
        assert 1 in rows_with_signs(block, starts)


def test_the_sieve_holds_back_ordinary_rows() -> None:
    text = "In 2024, 3.5 + 4 (see 17) was 7-8 of it."
    row = json.dumps({"messages": [{"role": "user", "content": text}]}).encode() + b"\n"

    assert rows_with_signs(row * 3, np.arange(3) * len(row)) == frozenset()
