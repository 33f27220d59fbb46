"""Work spread over processes of our own, results in order. Knows nothing of what is done.

Python's multiprocessing refuses to start children of a Celery worker's child, and a fork of a
process with threads may hang. So each helper is a fresh interpreter that takes pickled work from
its input and answers on its output; it ends when its input does, so none outlives a killed parent.
"""

import os
import pickle
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue
from typing import IO, Any, TypeVar

COMMAND = [sys.executable, "-m", "app.datasets.check.crew"]
_LENGTH = struct.Struct("<Q")
_AHEAD = 2  # pieces of work taken up for each helper
_MOST_WAITING = 64  # pieces that wait for one before them

Given = TypeVar("Given")
Made = TypeVar("Made")


class HelperLost(Exception):
    """A helper ended before it answered: it was killed, or the machine has no memory left."""


def in_order(
    function: Callable[[Given], Made], items: Iterable[Given], *, processes: int
) -> Iterator[Made]:
    """Yield ``function(item)`` for each item, in order, done by so many processes.

    The function and the items must be picklable; one process means this one. An exception of the
    function is raised here.
    """
    if processes < 2:  # noqa: PLR2004  # nobody to share with
        yield from map(function, items)
        return
    with _helpers(processes) as free, ThreadPoolExecutor(processes) as threads:
        coming = iter(items)
        running: deque[Future[Made]] = deque()
        for item in islice(coming, processes * _AHEAD):
            running.append(threads.submit(_ask, free, function, item))
        while running:
            made = running.popleft().result()
            for item in islice(coming, 1):
                running.append(threads.submit(_ask, free, function, item))
            yield made


def shared(
    function: Callable[[Given], Made], items: Iterable[Given], *, processes: int
) -> Iterator[Made]:
    """Yield ``function(item)`` for each item, in order, done by so many processes, this one too.

    This process works while the others start and when they are busy. Where a helper is lost, it
    does the work itself. An exception of the function is raised here.
    """
    others = max(1, processes - 1)
    with _helpers(others) as free, ThreadPoolExecutor(others) as threads:
        running: deque[tuple[Given, Future[Made]]] = deque()
        for item in items:
            busy = sum(not made.done() for _, made in running)
            if busy < others * _AHEAD:
                running.append((item, threads.submit(_ask, free, function, item)))
            else:
                running.append((item, Future()))
                running[-1][1].set_result(function(item))
            while running and (running[0][1].done() or len(running) > _MOST_WAITING):
                yield _made(function, *running.popleft())
        while running:
            yield _made(function, *running.popleft())


def _made(function: Callable[[Given], Made], item: Given, made: Future[Made]) -> Made:
    try:
        return made.result()
    except HelperLost:
        return function(item)


@contextmanager
def _helpers(count: int) -> Iterator["SimpleQueue[subprocess.Popen[bytes]]"]:
    """Start helpers; they are ended however the block is left."""
    free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
    started = [
        subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    for helper in started:
        free.put(helper)
    try:
        yield free
    finally:
        for helper in started:
            helper.kill()
            helper.communicate()


def _ask(
    free: "SimpleQueue[subprocess.Popen[bytes]]", function: Callable[[Given], Made], item: Given
) -> Made:
    helper = free.get()
    try:
        assert helper.stdin is not None
        assert helper.stdout is not None
        _send(helper.stdin, (function, item))
        done, answer = _receive(helper.stdout)
    except (BrokenPipeError, EOFError) as error:
        raise HelperLost("a helping process ended early; there may be too little memory") from error
    finally:
        free.put(helper)
    if not done:
        raise answer
    return answer


def _send(stream: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)  # noqa: S301  # from our own parent or child, over a pipe


def serve() -> None:
    """Answer what comes in until there is no more; what work prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            function, item = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = True, function(item)
        except Exception as error:  # noqa: BLE001  # it is raised again where it was asked
            answer = False, error
        try:
            _send(answers, answer)
        except BrokenPipeError:
            return


if __name__ == "__main__":
    serve()
