"""Rows unlike the rest: told where it is plain to see, and nowhere else."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pytest

from app.datasets.check import outliers
from app.datasets.check.languages import NAMES, are_alike, language_of, prose
from app.datasets.check.outliers import Outliers, row_language
from app.datasets.formats.base import Turn
from app.datasets.formats.messages import MESSAGES
from app.datasets.problems import Code
from app.datasets.table import HAS_ERROR, RowPlace, TableReader, as_records
from tests.fixtures.builders import conversation

THINGS = ["parcel", "invoice", "password", "delivery", "refund", "contract", "garden", "kitchen"]
PLACES = ["at the station", "near the river", "in the old town", "behind the market hall"]
ENGLISH = [
    conversation(
        f"Could you please tell me where my {thing} is, it should have been {place} by now?",
        f"I am sorry to hear that. Your {thing} was last seen {place} number {number} yesterday, "
        "and somebody from the team will bring it to you before the end of the week.",
    )
    for number in range(8)
    for thing in THINGS
    for place in PLACES
]
GERMAN = conversation(
    "Könnten Sie mir bitte sagen, wo meine Bestellung gerade ist, ich warte seit einer Woche?",
    "Das tut mir leid. Ihre Bestellung liegt noch im Lager und wird morgen früh verschickt.",
)
SPANISH = conversation(
    "¿Podría decirme por favor dónde está mi pedido, que todavía no ha llegado a mi casa?",
    "Lo siento mucho. Su pedido salió ayer del almacén y llegará mañana por la mañana.",
)
CODE = conversation(
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(add(i, 2))\n" * 3,
    "class Foo(Bar):\n    def __init__(self):\n        self.x = [1, 2, 3]\n        super().run()\n",
)
NAMES_LISTED = conversation(
    "Schmidt, Müller, García, Kowalski, Nguyen, Tanaka, Rossi, Dupont, Svensson, Papadopoulos",
    "Anna Müller, Jürgen Weiß, Karl-Heinz Öztürk, Günther Schröder, Björn Åkesson, Zoë Łukasz",
)
SHORT = conversation("Guten Tag!", "Grüß Gott, Herr Maier.")
TRANSLATION = conversation(
    "Please translate the following sentence into German: the parcel arrives tomorrow morning.",
    "Das Paket kommt morgen früh an, wenn das Wetter nicht zu schlecht wird.",
)
SQL = conversation(
    "SELECT name, age FROM users WHERE id = 1 AND deleted_at IS NULL ORDER BY created_at DESC",
    "INSERT INTO logs (level, message) VALUES ('info', 'done'), ('warn', 'nunca jamás')",
)
LATIN = conversation(
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt",
    "Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea",
)
LABELS = conversation('{"intent": "remboursement", "urgence": "haute"}', '{"étiquette": "négatif"}')
MATH = conversation("x^2 + 3x - 4 = 0, x = ?", "x = (-3 ± sqrt(9 + 16)) / 2, x1 = 1, x2 = -4")


class Source:
    """Rows in memory."""

    def __init__(self, rows: Sequence[object], *, bad: frozenset[int] = frozenset()) -> None:
        self._lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
        count = len(rows)
        records = as_records(
            lines=range(1, count + 1),
            offsets=[0] * count,
            sizes=list(map(len, self._lines)),
            flags=[HAS_ERROR if place in bad else 0 for place in range(count)],
            hashes=np.zeros((count, 2), np.uint64),
        )
        self.table = TableReader(io.BytesIO(records.tobytes()))

    def place(self, number: int) -> RowPlace:
        return self.table.row(number)

    def data(self, place: RowPlace) -> bytes:
        return self._lines[place.place]

    def turns(self, place: RowPlace) -> Sequence[Turn]:
        return MESSAGES.turns(json.loads(self._lines[place.place]))


def found(*rows: object, bad: frozenset[int] = frozenset()) -> Outliers:
    return outliers.find(Source(rows, bad=bad))


def told(*rows: object) -> list[tuple[int, Code]]:
    return [(problem.line, problem.code) for problem in found(*rows).problems]


def test_a_row_in_another_language_is_told() -> None:
    rows = [*ENGLISH[:60], GERMAN, *ENGLISH[60:]]

    outcome = found(*rows)

    assert [(one.line, one.code) for one in outcome.problems] == [(61, Code.LANGUAGE_OUTLIER)]
    message = outcome.problems[0].message
    assert message.startswith("The row is in German, ")
    assert message.endswith("% are in English.")
    assert "Bestellung" in outcome.problems[0].excerpt


@pytest.mark.parametrize(
    "row",
    [CODE, NAMES_LISTED, SHORT, TRANSLATION, SQL, LATIN, LABELS, MATH],
    ids=lambda row: str(row)[40:60],
)
def test_what_is_no_other_language_is_quiet(row: object) -> None:
    assert told(*ENGLISH, row) == []


def test_a_dataset_of_several_languages_is_quiet() -> None:
    assert told(*ENGLISH[:60], *[GERMAN] * 10) == []
    assert told(*[CODE] * 60, GERMAN) == []


def test_a_small_dataset_is_quiet() -> None:
    assert told(*ENGLISH[:45], GERMAN) == []
    assert told(*ENGLISH[:45], conversation("x " * 50_000, "Too long to read.")) == []


def test_languages_are_counted_with_their_share() -> None:
    statistics = found(*ENGLISH[:60], GERMAN, GERMAN, SPANISH, CODE).statistics

    assert [(one["code"], one["name"], one["rows"]) for one in statistics["languages"]] == [
        ("en", "English", 60),
        ("de", "German", 2),
        ("es", "Spanish", 1),
    ]
    assert statistics["languages"][0]["share"] == pytest.approx(60 / 63, abs=1e-4)
    assert (statistics["languages_looked_at"], statistics["languages_known"]) == (64, 63)
    assert statistics["languages_sampled"] is False


def test_of_a_large_dataset_some_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "LOOKED_AT", 20)

    statistics = found(*ENGLISH).statistics

    assert statistics["languages_looked_at"] == 20
    assert statistics["languages_sampled"] is True


def test_a_row_far_longer_than_the_rest_is_told() -> None:
    long = conversation(
        ENGLISH[0]["messages"][0]["content"], "All of the log: " + "error 7. " * 2000
    )

    outcome = found(*ENGLISH * 4, long)

    assert [(one.line, one.code) for one in outcome.problems] == [(1025, Code.LENGTH_OUTLIER)]
    assert "times the median of" in outcome.problems[0].message
    assert len(outcome.problems[0].excerpt) < 300


@pytest.mark.parametrize("others", [50, 64, 998])
def test_a_row_of_a_megabyte_among_a_few_small_ones_is_quiet(others: int) -> None:
    row = conversation("Please sum up this log.", "It says so: " + "line 7. " * 125_000)

    assert len(json.dumps(row)) > 1_000_000
    assert told(*(ENGLISH * 4)[:others], row) == []


def test_lengths_that_vary_widely_are_quiet() -> None:
    widths = np.random.default_rng(1).lognormal(mean=3, sigma=1.3, size=4000).astype(int) + 1
    rows = [conversation("Tell me more.", "It is so. " * int(width)) for width in widths]

    assert max(widths) > 20 * np.median(widths)
    assert told(*rows) == []


def test_rows_with_errors_do_not_count() -> None:
    assert found(*ENGLISH, GERMAN, bad=frozenset({len(ENGLISH)})).problems == []
    assert found().statistics["languages"] == []
    assert found({"messages": []}, bad=frozenset({0})).problems == []


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is my parcel? It should have been here yesterday already.", "en"),
        ("Wo bleibt mein Paket? Es hätte doch schon gestern hier sein sollen.", "de"),
        ("Où est mon colis ? Il aurait dû arriver hier, selon votre message.", "fr"),
        ("私の荷物はどこですか。昨日届くはずだったのに、まだ来ていません。", "ja"),
        ("我的包裹在哪里？昨天就应该到了，可是现在还没有收到任何消息。", "zh"),
        ("Где моя посылка? Она должна была прийти ещё вчера вечером.", "ru"),
        ("मेरा पार्सल कहाँ है? इसे कल ही यहाँ पहुँच जाना चाहिए था, कृपया बताइए।", "hi"),
        ("أين طردي؟ كان من المفترض أن يصل أمس، ولم يصلني أي خبر حتى الآن.", "ar"),
    ],
)
def test_plain_sentences_have_their_language(text: str, language: str) -> None:
    assert language_of(prose(text)) == language


def test_a_row_is_what_people_say_in_it_and_not_its_system_prompt() -> None:
    turns = [Turn("system", "You help customers in the best way you can."), *MESSAGES.turns(GERMAN)]

    assert row_language(turns) == "de"
    assert row_language(MESSAGES.turns(SHORT)) is None


def test_near_languages_are_not_odd_among_each_other() -> None:
    assert are_alike("no", "da")
    assert are_alike("en", "en")
    assert not are_alike("en", "de")
    assert all(len(code) == 2 for code in NAMES)
