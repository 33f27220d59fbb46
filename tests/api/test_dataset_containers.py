"""Every container over HTTP: told from content, checked by line, downloaded whole or cleaned."""

import csv
import gzip
import io
import json
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy.orm import Session

from app.datasets.models import DatasetVersion
from tests.fixtures import builders
from tests.fixtures.client import Client
from tests.fixtures.datasets import check

if sys.version_info >= (3, 14):
    from compression import zstd  # pyright: ignore[reportMissingImports]
else:
    from backports import zstd

DATASETS = "/api/v1/datasets"
GOOD = [
    builders.conversation(f"What is in box {n}?", f"Box {n} holds {n} lamps.") for n in range(3)
]
BAD = {"messages": []}
ROWS = [GOOD[0], BAD, *GOOD[1:]]


def table(separator: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator)
    writer.writerow(["messages", "source"])
    writer.writerows([json.dumps(row["messages"]), "boxes"] for row in ROWS)
    return stream.getvalue().encode()


def parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"messages": [row["messages"] for row in ROWS]}), stream)
    return stream.getvalue()


FILES: dict[str, tuple[bytes, int, str]] = {
    "jsonl": (builders.jsonl(ROWS), 2, "application/jsonl"),
    "json": (json.dumps(ROWS, indent=1).encode(), 14, "application/json"),
    "csv": (table(","), 3, "text/csv"),
    "tsv": (table("\t"), 3, "text/tab-separated-values"),
    "parquet": (parquet(), 2, "application/vnd.apache.parquet"),
}
PACKERS: dict[str, Any] = {"": lambda data: data, "gzip": gzip.compress, "zstd": zstd.compress}


def checked(client: Client, session: Session, content: bytes, name: str = "x") -> dict[str, Any]:
    answer = client.post(DATASETS, files={"file": (name, content)})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    check(session, session.get_one(DatasetVersion, made["versions"][0]["id"]))
    return client.get(f"{DATASETS}/{made['id']}").json()


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("container", FILES)
def test_a_bad_row_is_reported_by_line_and_left_out_of_the_cleaned_file(
    client: Client, session: Session, container: str, packing: str
) -> None:
    plain, line, kind = FILES[container]
    content = PACKERS[packing](plain)

    dataset = checked(client, session, content, name=f"boxes.{container}.gz")
    url = f"{DATASETS}/{dataset['id']}"
    problems = client.get(f"{url}/problems").json()["items"]

    assert (dataset["status"], dataset["format"], dataset["examples"]) == ("invalid", "messages", 3)
    assert [(found["line"], found["code"]) for found in problems] == [(line, "empty_messages")]
    assert client.get(f"{url}/file").content == content
    rest = client.get(f"{url}/file?cleaned=true")
    assert rest.headers["content-type"].partition(";")[0] == kind
    again = checked(client, session, rest.content)
    assert (again["status"], again["examples"]) == ("ready", 3)
    assert _rows(client, again) == [row["messages"] for row in GOOD]


def _rows(client: Client, dataset: dict[str, Any]) -> list[Any]:
    found = client.get(f"{DATASETS}/{dataset['id']}/examples").json()["items"]
    return [item["row"]["messages"] for item in found]


def test_a_packed_download_says_what_it_is(client: Client, session: Session) -> None:
    dataset = checked(client, session, gzip.compress(FILES["csv"][0]), name="boxes.csv.gz")
    url = f"{DATASETS}/{dataset['id']}/file"

    packed, rest = client.get(url), client.get(f"{url}?cleaned=true")

    assert packed.headers["content-type"] == "application/gzip"
    assert packed.headers["content-disposition"].endswith("''boxes.csv.gz")
    assert rest.headers["content-disposition"].endswith("''cleaned-boxes.csv")
    assert rest.text == "".join(
        table(",").decode().splitlines(keepends=True)[at] for at in (0, 1, 3, 4)
    )


def test_a_broken_record_and_a_broken_row_are_errors_with_their_text(
    client: Client, session: Session
) -> None:
    content = table(",").replace(b",boxes", b",boxes,more", 1)

    dataset = checked(client, session, content)
    url = f"{DATASETS}/{dataset['id']}"
    found = client.get(f"{url}/problems").json()["items"]

    assert [(item["line"], item["code"]) for item in found] == [
        (2, "invalid_json"),
        (3, "empty_messages"),
    ]
    assert found[0]["message"] == "The record has 3 cells where the header names 2 columns."
    assert "boxes,more" in found[0]["excerpt"]
    assert "boxes,more" in client.get(f"{url}/examples").json()["items"][0]["text"]


def test_a_cut_stream_keeps_its_rows_and_says_where_it_breaks(
    client: Client, session: Session
) -> None:
    rows = [builders.conversation(f"Box {n}?", f"Box {n} holds {n * n} lamps.") for n in range(900)]

    dataset = checked(client, session, gzip.compress(builders.jsonl(rows))[:-300])

    (problem,) = client.get(f"{DATASETS}/{dataset['id']}/problems").json()["items"]
    assert dataset["status"] == "invalid"
    assert 0 < dataset["examples"] == problem["line"] - 1 < 900
    assert problem["code"] == "invalid_json"
    rest = client.get(f"{DATASETS}/{dataset['id']}/file?cleaned=true").content
    assert rest == builders.jsonl(rows[: dataset["examples"]])


def test_bytes_that_are_not_utf8_are_one_problem_of_their_record(
    client: Client, session: Session
) -> None:
    content = table(",").replace(b"boxes", b"b\xf6xes", 1)

    dataset = checked(client, session, content)

    found = client.get(f"{DATASETS}/{dataset['id']}/problems?code=not_utf8").json()["items"]
    assert [item["line"] for item in found] == [2]
    assert dataset["errors"] == 2


@pytest.mark.parametrize(
    "content", [b"\n", b"\r\n", b"\xef\xbb\xbf\n", gzip.compress(b"\n", mtime=0)]
)
def test_blank_lines_alone_are_an_empty_file(
    client: Client, session: Session, content: bytes
) -> None:
    dataset = checked(client, session, content)

    found = client.get(f"{DATASETS}/{dataset['id']}/problems").json()["by_code"]
    assert dataset["status"] == "invalid"
    assert (found["empty_file"], found["blank_line"]) == (1, 1)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[]", "empty_file"),
        (b"messages,source\n", "empty_file"),
        (gzip.compress(b"", mtime=0), "empty_file"),
        (parquet()[:-9], "unknown_format"),
        (gzip.compress(parquet(), mtime=0)[:-20], "unknown_format"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "unknown_format"),
    ],
)
def test_a_file_without_readable_rows_has_one_problem(
    client: Client, session: Session, content: bytes, code: str
) -> None:
    dataset = checked(client, session, content)

    found = client.get(f"{DATASETS}/{dataset['id']}/problems").json()
    assert (dataset["status"], dataset["examples"]) == ("invalid", 0)
    assert found["by_code"] == {code: 1}
