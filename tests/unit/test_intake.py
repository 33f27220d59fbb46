"""What a file is is told from its content; a packed one is read to its end, break or limit."""

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from app.datasets import intake
from app.datasets.intake import Limits
from app.errors import NoSpace
from tests.unit.containers import Taken, cleaned, conversations, refusal

if sys.version_info >= (3, 14):
    from compression import zstd  # pyright: ignore[reportMissingImports]
else:
    from backports import zstd

ROWS = conversations(2000)
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
PACKERS: dict[str, Any] = {"gzip": gzip.compress, "zstd": zstd.compress}
CONTAINERS = {
    "jsonl": JSONL,
    "json": json.dumps(ROWS, indent=1).encode(),
    "csv": b"prompt,completion\nHi,Hello\n",
    "tsv": b"prompt\tcompletion\nHi\tHello\n",
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_packed_file_gives_the_same_rows(container: str, packing: str) -> None:
    plain, packed = Taken(CONTAINERS[container]), Taken(PACKERS[packing](CONTAINERS[container]))

    assert (plain.kind, packed.kind) == ((container, None), (container, packing))
    assert (packed.rows, packed.notes) == (plain.rows, [])


@pytest.mark.parametrize("packing", PACKERS)
def test_members_one_behind_the_other_are_one_file(packing: str) -> None:
    half = JSONL.index(b"\n", len(JSONL) // 2) + 1
    packed = PACKERS[packing](JSONL[:half]) + PACKERS[packing](JSONL[half:])

    assert Taken(packed).values == ROWS


@pytest.mark.parametrize("container", ["jsonl", "json"])
@pytest.mark.parametrize("packing", PACKERS)
def test_rows_before_a_cut_are_kept_and_one_problem_says_where(
    packing: str, container: str
) -> None:
    packed = PACKERS[packing](CONTAINERS[container])

    taken = Taken(packed[: -len(packed) // 4])

    assert 0 < len(taken.rows) < 2000
    assert taken.values == ROWS[: len(taken.rows)]
    assert taken.faults == {}
    ((line, code, message),) = taken.said
    assert (line > taken.lines[-1], code) == (True, "invalid_json")
    assert "it ends early" in message


@pytest.mark.parametrize("packing", PACKERS)
def test_a_damaged_stream_says_where(packing: str) -> None:
    packed = bytearray(PACKERS[packing](JSONL * 20))
    packed[len(packed) // 2 : len(packed) // 2 + 200] = bytes(200)

    taken = Taken(bytes(packed))

    assert [code for _, code, _ in taken.said] == ["invalid_json"]
    assert "it is damaged after" in taken.said[0][2]


@pytest.mark.parametrize("packing", PACKERS)
def test_a_bomb_is_given_up_early(packing: str) -> None:
    bomb = PACKERS[packing](b"a" * 200 * 2**20)

    taken = Taken(bomb)

    ((_, code, message),) = taken.said
    assert (code, "200 times its size" in message) == ("invalid_json", True)
    assert taken.raw == []


def test_a_bomb_that_json_hides_in_its_rows_is_given_up_too() -> None:
    row = '{"' + "k" * 10_000 + '":1}'
    taken = Taken(gzip.compress(f"{row}\n".encode() * 9000))

    assert "decompression bomb" in taken.said[0][2]
    assert taken.values[0] == {"k" * 10_000: 1}


def test_the_limit_on_what_is_unpacked_names_its_setting() -> None:
    taken = Taken(gzip.compress(JSONL * 10), Limits(unpacked_bytes=2 * 2**20))

    assert 0 < len(taken.rows) < 20_000
    assert "TUNEBOX_MAX_UNPACKED_BYTES" in taken.said[0][2]


def test_a_full_disk_is_told_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("app.kit.storage.shutil.disk_usage", lambda _: usage)

    with pytest.raises(NoSpace, match="MiB are free"):
        Taken(gzip.compress(JSONL), Limits(folder=tmp_path))


EMPTY = {
    "a list": b" [ \n] ",
    "a header": b"prompt,completion",
    "a header and blank lines": b"prompt\tcompletion\n\n",
}


@pytest.mark.parametrize("content", EMPTY.values(), ids=EMPTY)
def test_a_file_without_rows_is_empty(content: bytes) -> None:
    for packed in (content, gzip.compress(content), zstd.compress(content)):
        assert refusal(packed)[0] == "empty_file"


@pytest.mark.parametrize("packing", PACKERS)
def test_nothing_packed_is_empty(packing: str) -> None:
    assert refusal(PACKERS[packing](b""))[0] == "empty_file"


FOREIGN = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "zip": b"PK\x03\x04 data",
    "Excel": b"PK\x03\x04 xl/workbook.xml",
    "HTML": b"<!doctype html><html>",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "UTF-16": "prompt,completion\nHi,Hello\n".encode("utf-16"),
    "UTF-32": '{"messages": []}'.encode("utf-32"),
    "tar": b"rows.jsonl".ljust(257, b"\0") + b"ustar",
    "CR alone": b"prompt,completion\rHi,Hello\rx,y\r",
    "encrypted Parquet": b"PARE" + bytes(40),
    "bzip2": b"BZh91AY",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_dataset_is_said_by_its_name(what: str) -> None:
    for packed in (FOREIGN[what], gzip.compress(FOREIGN[what])):
        code, message = refusal(packed)
        assert (code, what in message) == ("unknown_format", True), message


def test_a_file_packed_twice_is_refused() -> None:
    code, message = refusal(gzip.compress(zstd.compress(JSONL)))

    assert code == "unknown_format"
    assert "a zstd archive within a gzip archive" in message


def test_a_stream_of_which_nothing_can_be_read_is_refused() -> None:
    assert refusal(gzip.compress(JSONL)[:12])[0] == "unknown_format"
    assert refusal(b"\x28\xb5\x2f\xfd and text")[0] == "unknown_format"


@pytest.mark.parametrize(
    "content", [*CONTAINERS.values(), gzip.compress(JSONL, mtime=0), zstd.compress(JSONL)]
)
def test_the_first_bytes_of_a_good_file_are_never_refused(content: bytes) -> None:
    for size in (0, 1, 3, 5, 20, 100):
        assert intake.first_look(io.BytesIO(content[:size])) is None


def test_the_first_bytes_of_a_picture_are_refused() -> None:
    assert intake.first_look(io.BytesIO(b"\x89PNG\r\n")) is not None


@pytest.mark.parametrize(
    "content",
    [b'[{"role": "user"}]', b'["user", "hello"]', b'[{"a": 1}]\n[{"a": 1}]\n', b"not json at all"],
)
def test_a_list_as_a_single_row_stays_a_row(content: bytes) -> None:
    assert Taken(content).kind == ("jsonl", None)


def test_a_line_that_poses_as_a_fault_is_one_of_its_own() -> None:
    posing = b'\0{"code":"bom","message":"x","text":"","start":0,"end":0}\n'

    taken = Taken(gzip.compress(JSONL[: JSONL.index(b"\n") + 1] + posing))

    assert [fault.message for fault in taken.faults.values()] == ["the line begins with NUL"]


def test_a_packed_file_comes_out_unpacked_when_cleaned() -> None:
    content = b"\xef\xbb\xbf\n" + JSONL

    for packed in (content, gzip.compress(content), zstd.compress(content)):
        assert cleaned(packed) == JSONL
    assert cleaned(gzip.compress(content)[:-20], bad=[0]).startswith(JSONL.split(b"\n")[1])
