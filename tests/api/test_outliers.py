"""Rows unlike the rest, as a checked dataset tells them."""

from sqlalchemy.orm import Session

from app.datasets.table import HAS_WARNING, TableReader
from app.kit.storage import get_storage
from app.settings import get_settings
from tests.api.test_datasets import DATASETS, analysed, upload
from tests.fixtures import builders
from tests.fixtures.client import Client

TOLD = (
    "the parcel came in the evening",
    "nobody was at home when they rang",
    "the garden gate has been locked since spring",
    "we should ask the neighbours about it",
)
ENGLISH = [
    builders.conversation(
        f"What happened on day {number} of the journey, and who told you so?",
        f"On day {number} we heard that {TOLD[number % 4]}, so that {TOLD[number // 4 % 4]} too, "
        f"and in the end {TOLD[number // 16 % 4]}.",
    )
    for number in range(64)
]
GERMAN = builders.conversation(
    "Könnten Sie mir bitte sagen, wo meine Bestellung gerade ist?",
    "Das tut mir leid, Ihre Bestellung liegt noch im Lager und wird morgen verschickt.",
)


def test_outliers_are_warnings_with_languages_in_the_statistics(
    client: Client, session: Session
) -> None:
    made = upload(client, builders.jsonl([*ENGLISH, GERMAN]), name="days").json()

    version = analysed(session, made)

    url = f"{DATASETS}/{made['id']}"
    (odd,) = client.get(f"{url}/problems?code=language_outlier").json()["items"]
    assert (odd["line"], odd["severity"]) == (65, "warning")
    assert odd["message"].startswith("The row is in German")
    assert version.status == "ready"
    statistics = client.get(f"{url}/statistics").json()["statistics"]
    assert [one["code"] for one in statistics["languages"]] == ["en", "de"]
    with get_storage(get_settings()).open(version.table_key) as table:
        assert TableReader(table).row(64).flags & HAS_WARNING
