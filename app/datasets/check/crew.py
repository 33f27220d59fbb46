"""Work spread over processes of our own, results in order. Knows nothing of what is done.

Python's multiprocessing refuses to start children of a Celery worker's child, and a fork of a
process with threads may hang. So each helper is a fresh interpreter, or where this process has no
other thread a fork of it, which is there at once. Threads of a library that a fork would wait for
without end are not seen from here: who starts them calls ``forbid_forks``. A helper takes pickled
work from its input and answers on its output; it ends when its input does, so none outlives a
killed parent.
"""

import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import IO, Any, TypeVar

COMMAND = [sys.executable, "-m", "app.datasets.check.crew"]
_LENGTH = struct.Struct("<Q")
_AHEAD = 2  # pieces of work taken up for each helper
_MOST_WAITING = 64  # pieces that wait for one before them

Given = TypeVar("Given")
Made = TypeVar("Made")


_is_forkable = sys.platform == "linux"


def forbid_forks() -> None:
    """Start fresh interpreters from now on: this process has threads that a fork would lack."""
    global _is_forkable  # noqa: PLW0603  # it is the process's state
    _is_forkable = False


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

    This process works while the others start and when they have enough to do; what it sends them
    must be small. Where a helper is lost, it does the work itself. An exception of the function is
    raised here.
    """
    with _helpers(max(1, processes - 1)) as free:
        posts = [_Post(free.get()) for _ in range(free.qsize())]
        try:
            yield from _shared(function, items, posts)
        finally:
            for post in posts:
                post.close()


def _shared(
    function: Callable[[Given], Made], items: Iterable[Given], posts: "list[_Post]"
) -> Iterator[Made]:
    running: deque[tuple[Given, Future[Made]]] = deque()
    for item in items:
        post = min(posts, key=_Post.waiting)
        if post.waiting() < _AHEAD:
            running.append((item, post.send(function, item)))
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


class _Post:
    """A helper that has its next work before it has done the last, so that it never waits."""

    def __init__(self, helper: "_Helper") -> None:
        self._helper = helper
        self._sent: SimpleQueue[Future[Any] | None] = SimpleQueue()
        self._waiting: list[Future[Any]] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def waiting(self) -> int:
        """Return how many pieces of work are not done."""
        self._waiting = [made for made in self._waiting if not made.done()]
        return len(self._waiting)

    def send(self, function: Callable[[Given], Made], item: Given) -> Future[Made]:
        """Give the helper some work."""
        made: Future[Made] = Future()
        self._waiting.append(made)
        with suppress(BrokenPipeError):  # the other end tells that it is lost
            _send(self._helper.work, (function, item))
        self._sent.put(made)
        return made

    def _collect(self) -> None:
        """Take what the helper answers, in the order of its work, until it ends."""
        while True:
            try:
                done, answer = _receive(self._helper.answers)
            except (EOFError, OSError, ValueError):  # it has ended, or was ended
                break
            if (made := self._sent.get()) is None:
                return
            if done:
                made.set_result(answer)
            else:
                made.set_exception(answer)
        while (made := self._sent.get()) is not None:
            made.set_exception(HelperLost("a helping process ended early"))

    def close(self) -> None:
        """Send no more."""
        self._sent.put(None)


@dataclass(frozen=True)
class _Helper:
    """A process: where it takes work, where it answers, and what ends it."""

    work: IO[bytes]
    answers: IO[bytes]
    end: Callable[[], object]


@contextmanager
def _helpers(count: int) -> Iterator["SimpleQueue[_Helper]"]:
    """Start helpers; they are ended however the block is left."""
    free: SimpleQueue[_Helper] = SimpleQueue()
    can_fork = _is_forkable and threading.active_count() == 1
    started = [_forked() if can_fork else _fresh() for _ in range(count)]
    for helper in started:
        free.put(helper)
    try:
        yield free
    finally:
        for helper in started:
            helper.end()


def _fresh() -> _Helper:
    child = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None

    def end() -> None:
        child.kill()
        child.communicate()

    return _Helper(child.stdin, child.stdout, end)


def _forked() -> _Helper:
    """Return a copy of this process, which has one thread and all that is loaded here."""
    work_in, work_out = os.pipe()
    answers_in, answers_out = os.pipe()
    with warnings.catch_warnings():
        # Numerical libraries keep threads of their own and know how to be forked.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            os.close(work_out)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's end is ours
            _serve(os.fdopen(work_in, "rb"), os.fdopen(answers_out, "wb"))
        finally:
            os._exit(0)
    os.close(work_in)
    os.close(answers_out)
    work, answers = os.fdopen(work_out, "wb"), os.fdopen(answers_in, "rb")

    def end() -> None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        answers.close()
        with suppress(BrokenPipeError):
            work.close()

    return _Helper(work, answers, end)


def _ask(free: "SimpleQueue[_Helper]", function: Callable[[Given], Made], item: Given) -> Made:
    helper = free.get()
    try:
        _send(helper.work, (function, item))
        done, answer = _receive(helper.answers)
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


def _serve(work: IO[bytes], answers: IO[bytes]) -> None:
    """Answer what comes in until there is no more; what work prints goes to standard error."""
    os.dup2(2, 1)
    while True:
        try:
            function, item = _receive(work)
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
    _serve(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
