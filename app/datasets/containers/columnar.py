"""Arrow's side of Parquet: types that Python can read, and a file written piece by piece. Pure.

Knows no row.
"""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP_BYTES = 16 * 2**20
_GROUP_ROWS = 2**16


class _Sink(io.RawIOBase):
    """Collects what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any, /) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class ParquetStream:
    """A Parquet file of any size, written in constant memory: send on what each call returns."""

    def __init__(self, schema: "pa.Schema") -> None:
        import pyarrow.parquet as pq

        self._sink = _Sink()
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd")
        self._schema = schema
        self._held: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, batch: "pa.RecordBatch") -> bytes:
        """Take rows; return what of the file is ready."""
        self._held.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()
        return self._sink.take()

    def close(self) -> bytes:
        """Return the rest of the file."""
        self._flush()
        self._writer.close()
        return self._sink.take()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._held, self._schema))
        self._held, self._rows, self._bytes = [], 0, 0


def readable(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Return a batch with types that become plain Python values without pandas.

    Times keep microseconds and are in UTC; words of a dictionary are spelled out.
    """
    import pyarrow as pa

    columns: list[Any] = []
    for column in batch.columns:
        kind = _plain(column.type)
        columns.append(column if kind == column.type else column.cast(kind, safe=False))
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _plain(kind: Any) -> Any:
    """Return the type to read a type as, however deep it lies."""
    import pyarrow as pa

    types = pa.types
    if types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if types.is_duration(kind):
        return pa.duration("us")
    if types.is_time(kind):
        return pa.time64("us")
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if types.is_float16(kind):
        return pa.float32()
    return _plain_nested(kind)


def _plain_nested(kind: Any) -> Any:
    import pyarrow as pa

    types = pa.types
    if types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_plain(kind.key_type), kind.item_field.with_type(_plain(kind.item_type)))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    return kind
