"""Parquet: rows in columns, read in batches of bounded memory. Pure but for pyarrow.

A row's line is its number, from 1. Null means that a row has no such key. What JSON has no word for
(bytes that are no text, infinity) is a fault of its row.
"""

from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import msgspec

from app.datasets.check.lines import LINE_LIMIT
from app.datasets.containers.base import Fault, Interrupted, IsBad, Item, Note, Refused, marked
from app.datasets.containers.cells import Reader, conversation, reader_of, tool_calls
from app.datasets.containers.columnar import ParquetStream, readable
from app.datasets.containers.header import MOST_COLUMNS
from app.datasets.containers.jsonl import too_long
from app.datasets.problems import Code

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = b"PAR1"
_BATCH_BYTES = 8 * 2**20
_MOST_ROWS = 128  # of a batch, whatever the file says of their size
_BUFFER = 2**20
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Parquet:
    """Apache Parquet with one row of the table a row."""

    name = "parquet"
    title = "Parquet"
    media_type = "application/vnd.apache.parquet"
    ending = "parquet"

    def items(self, stream: IO[bytes]) -> Iterator[Item | Note]:
        """Yield every row as an object of its columns."""
        line = 1
        rows = _Rows()
        for batch in _batches(_open(stream)):
            for data in rows.of(batch):
                yield Item(line, data)
                line += 1

    def cleaned(self, stream: IO[bytes], is_bad: IsBad) -> Iterator[bytes]:
        """Yield a Parquet file of the same columns with the good rows."""
        import pyarrow as pa

        file = _open(stream)
        written = ParquetStream(file.schema_arrow)
        place = 0
        try:
            for batch in _batches(file):
                good = [not is_bad(place + at) for at in range(batch.num_rows)]
                place += batch.num_rows
                yield written.add(batch.filter(pa.array(good)))
        except Interrupted:
            pass  # what came before the break is the table
        yield written.close()


def row_count(stream: IO[bytes]) -> int:
    """Return how many rows a file has; raises ``Refused`` if it cannot be read."""
    return int(_open(stream).metadata.num_rows)


def _open(stream: IO[bytes]) -> Any:
    """Return pyarrow's reader of a file; raises ``Refused``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(
            stream, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        )
        columns = len(file.schema_arrow.names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Refused(f"a Parquet file that cannot be read: {_reason(error)}") from error
    if columns > MOST_COLUMNS:
        raise Refused(f"a Parquet file with {columns:,} columns; {MOST_COLUMNS:,} are the most")
    return file


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    if "magic bytes" in text or "footer" in text:
        return "its footer is missing or damaged, so it was cut off; write or copy it again"
    return f"{text[:200]}; write it again"


def _batches(file: Any) -> "Iterator[pa.RecordBatch]":
    """Yield the rows in batches; raises ``Interrupted`` where the file is damaged."""
    import pyarrow as pa

    meta = file.metadata
    stored = sum(meta.row_group(at).total_byte_size for at in range(meta.num_row_groups))
    a_row = max(1, stored // max(1, meta.num_rows))
    size = max(1, min(_MOST_ROWS, _BATCH_BYTES // a_row))
    batches = file.iter_batches(batch_size=size, use_threads=False)
    line = 1
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError, ValueError) as error:
            what = f"the Parquet file cannot be read from here on: {_reason(error)}"
            raise Interrupted(line, what) from error
        if batch is None:
            return
        line += batch.num_rows
        yield batch


class _Unfit(Exception):
    """A value has no place in JSON."""


class _Rows:
    """Makes lines of JSON of batches."""

    def __init__(self) -> None:
        self._readers: dict[str, Reader | None] = {}

    def of(self, batch: "pa.RecordBatch") -> Iterator[bytes]:
        """Yield each row of a batch as a line of JSON, or marked."""
        try:
            values: Sequence[Any] = readable(batch).to_pylist()
        except Exception as error:  # noqa: BLE001  # whatever pyarrow or a value's type raises
            if batch.num_rows > 1:
                for at in range(batch.num_rows):
                    yield from self.of(batch.slice(at, 1))
            else:
                yield marked(_unfit(f"a value of it cannot be read: {str(error)[:200]}"))
            return
        for row in values:
            yield self._row(row)

    def _row(self, row: dict[str, Any]) -> bytes:
        try:
            made = {name: self._value(name, value) for name, value in row.items()}
            data = _encode({name: value for name, value in made.items() if value is not None})
        except _Unfit as error:
            return marked(_unfit(str(error)))
        except (
            msgspec.MsgspecError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:
            return marked(_unfit(f"a value of it has no form in JSON: {str(error)[:200]}"))
        return data if len(data) <= LINE_LIMIT else marked(too_long(len(data)))

    def _value(self, name: str, value: Any) -> Any:
        if type(value) is not str:
            return _tidy(value, name)
        if name not in self._readers:
            self._readers[name] = reader_of(name)
        reader = self._readers[name]
        read = reader(value) if reader else conversation(value)
        if isinstance(read, Fault):
            raise _Unfit(read.message)
        return read


def _unfit(message: str) -> Fault:
    return Fault(Code.INVALID_JSON, f"the row has no form in JSON: {message}")


def _tidy(value: Any, name: str) -> Any:
    """Return a value as JSON has it: no nulls in objects, maps as objects, bytes as text."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is dict:
        return _tidy_object(value, name)
    if kind is list:
        pairs = bool(value) and all(type(item) is tuple and len(item) == 2 for item in value)  # noqa: PLR2004
        if pairs and all(type(item[0]) is str for item in value):
            return {key: _tidy(item, name) for key, item in value if item is not None}
        return [_tidy(item, name) for item in value]
    if kind is tuple:
        return [_tidy(item, name) for item in value]
    return _scalar(value, name)


def _tidy_object(value: dict[str, Any], name: str) -> dict[str, Any]:
    made = {key: _tidy(item, name) for key, item in value.items() if item is not None}
    calls = made.get("tool_calls")
    if type(calls) is str:
        made["tool_calls"] = tool_calls(calls)
    return made


def _scalar(value: Any, name: str) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            message = f"the column {name!r} holds {len(value):,} bytes that are not UTF-8 text"
            raise _Unfit(message) from error
    if isinstance(value, float) and value != value:  # noqa: PLR0124  # NaN: how pandas writes null
        return None
    if isinstance(value, float) and value in {float("inf"), float("-inf")}:
        raise _Unfit(f"the column {name!r} holds {value}")
    return value
