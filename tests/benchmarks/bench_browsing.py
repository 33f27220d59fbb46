"""Opening rows of a dataset of 3,000,000 rows, over HTTP: the page and the API, at any row.

Its peer is the issue's bar: 100 ms of the server's time. Rows are small, so that the file is made
and checked quickly; a row is found by one seek, whatever its size.
"""

import random
import statistics
import tempfile
import time
from pathlib import Path

import httpx2

from app.datasets.check.validation import validate
from app.datasets.models import DatasetVersion
from app.kit.db import transaction
from app.kit.storage import Storage, get_storage
from app.settings import get_settings
from tests.benchmarks.servers import servers
from tests.fixtures.builders import create_dataset_version, create_user
from tests.streaming.server import Server, cookie_of

ROWS, ASKED = 3_000_000, 60
ROW = (
    '{{"messages":[{{"role":"user","content":"Where is order {0}?"}},'
    '{{"role":"assistant","content":"Order {0} has left."}}]}}\n'
)


def main() -> None:
    """Run it and print the figures in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="tb-") as name, servers(Path(name)) as url:
        storage = get_storage(get_settings())
        with transaction(url) as session:
            actor = create_user(session)
            version = create_dataset_version(session, owner=actor, examples=ROWS)
            cookie, dataset_id = cookie_of(session, actor), version.dataset_id
            _fill(storage, version)
        server = Server(Path(name)).start()
        try:
            page = f"{server.origin}/datasets/{dataset_id}/examples"
            api = f"{server.origin}/api/v1/datasets/{dataset_id}/examples"
            for what, address in (("page", page), ("API", api)):
                _print(what, _times(address, cookie))
        finally:
            server.kill()


def _fill(storage: Storage, version: DatasetVersion) -> None:
    with storage.open(version.storage_key, "wb") as target:
        for start in range(0, ROWS, 100_000):
            numbers = range(start, start + 100_000)
            target.write("".join(ROW.format(number) for number in numbers).encode())
    source = storage.open(version.storage_key)
    with source, storage.open(version.table_key, "w+b") as table:
        validate(source, emit=lambda _: None, table=table)


def _times(address: str, cookie: str) -> list[float]:
    chance = random.Random(7)
    found: list[float] = []
    with httpx2.Client(headers={"Cookie": cookie}) as client:
        client.get(address).raise_for_status()  # the first one compiles the template
        for _ in range(ASKED):
            row = chance.randrange(1, ROWS)
            began = time.perf_counter()
            answer = client.get(address, params={"row": row})
            found.append(1000 * (time.perf_counter() - began))
            assert f"order {row - 1}" in answer.text, answer.text[:500]
    return found


def _print(what: str, times: list[float]) -> None:
    middle, most = statistics.median(times), max(times)
    print(
        f"{what}: {len(times)} random rows of {ROWS:,}, "
        f"median {middle:.0f} ms, most {most:.0f} ms (bar 100 ms)"
    )


if __name__ == "__main__":
    main()
