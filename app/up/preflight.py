"""What must be so before anything starts; each refusal is one sentence with its cure.

Knows addresses, locks and disks, and none of our servers.
"""

import errno
import fcntl
import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded import places
from app.errors import Conflict, Unavailable

_NEEDED_BYTES = 256 * 2**20  # room for databases, logs and a small upload
_PRIVILEGED = 1024


@contextmanager
def sole_user(data: Path) -> Iterator[None]:
    """Hold the data folder for this process; refuse if another `tunebox up` has it."""
    places.prepare(data, empty=True)
    places.require_space(data, _NEEDED_BYTES)
    path = data / "up.lock"
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"Tunebox already runs on {data}; stop it first, or choose another folder "
                "with --data.",
                code="already_running",
            ) from None
        yield


def require_port(host: str, port: int) -> None:
    """Raise unless we can listen on ``host``:``port``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _port_failure(host, port, error) from None


def _port_failure(host: str, port: int, error: OSError) -> Unavailable | Conflict:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"Port {port} on {host} is taken by another program; stop that, or choose another "
            f"one with --port {port + 1}.",
            code="port_taken",
        )
    if error.errno == errno.EACCES and port < _PRIVILEGED:
        return Unavailable(f"Port {port} needs more rights; choose one from 1024 on with --port.")
    return Unavailable(
        f"Tunebox cannot listen on {host} ({error.strerror}); choose an address of this machine "
        "with --host, such as 127.0.0.1 or 0.0.0.0."
    )


def tables_wanted() -> str:
    """Return a mark of this code's migrations: another mark, another set of tables."""
    folder = Path(__file__).parents[2] / "migrations" / "versions"
    content = [path.read_bytes() for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(content)).hexdigest()
