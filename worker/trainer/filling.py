"""Many rows into tokens, in several processes, or from the cache where they were made before.

Now and then a row is also coded the plain way; should the two ever differ, everything is coded the
plain way. Knows neither torch nor jobs.
"""

import gc
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path

from app.jobs.state import FailureKind
from worker.trainer import canonical, masks
from worker.trainer.chat import Chat
from worker.trainer.data import Example
from worker.trainer.failures import TrainerError
from worker.trainer.sources import Source
from worker.trainer.splitting import key_of
from worker.trainer.stopping import leave_it_to
from worker.trainer.templates import TemplateRejects
from worker.trainer.tokensets import Cache, Part, TokenSet, gathered, numbered

VERSION = 1  # of what tokens look like; another one makes every kept set void
_ROWS = 1000  # a process codes so many at a time
_ALONE = 4000  # up to so many rows a second process is not worth its start
_COMPARED = 256  # one row of so many is coded both ways


Told = Callable[[int, int], None]
OrRefused = masks.Rendered | TemplateRejects


class Unfaithful(Exception):
    """The quick way gave other tokens than the plain one."""


@dataclass(frozen=True)
class Model:
    """Whose tokens: the model's folder, where conversions are kept, and the day that is told."""

    folder: Path
    cache: Path | None = None
    today: date | None = None

    def chat(self) -> Chat:
        """Return its tokenizer and templates."""
        return canonical.read(self.folder, cache=self.cache, today=self.today)


def tokens_of(
    model: Model,
    source: Source,
    *,
    assistant_only: bool,
    processes: int | None = None,
    told: Told | None = None,
) -> TokenSet:
    """Return every row's tokens, from the model's cache if they are there.

    ``told`` gets how many rows are done of how many, and may raise to end the work. Rows that the
    template refuses are in the set without tokens, with the reason.
    """
    chat = model.chat()
    count = processes or (min(4, os.cpu_count() or 1) if len(source) > _ALONE else 1)
    key = hashlib.sha256(
        f"{VERSION} {source.digest()} {chat.digest} {assistant_only}".encode()
    ).hexdigest()[:40]
    cache = Cache(model.cache) if model.cache else None
    if cache is not None and (known := cache.get(key)) is not None:
        return known
    for plain in (False, True):
        coding = Coding(chat, assistant_only=assistant_only, plain=plain)
        parts = numbered(
            _here(coding, source, told)
            if count == 1
            else _in_processes(coding, source, told, model=model, count=count)
        )
        try:
            return cache.put(key, parts) if cache else gathered(parts)
        except Unfaithful:
            print("Words gave other tokens than whole texts; everything is coded whole.")
    raise AssertionError("the plain way is compared with nothing")


class Coding:
    """Codes rows part by part, in whichever process."""

    def __init__(self, chat: Chat, *, assistant_only: bool, plain: bool) -> None:
        self._chat, self.assistant_only, self.plain = chat, assistant_only, plain
        self._coder = chat.whole if plain else chat.quick

    def part(self, source: Source) -> Part:
        """Return the tokens of all rows of ``source``."""
        keys: list[int] = []
        rendered: list[OrRefused] = []
        for example in source.examples(range(len(source))):
            keys.append(key_of(example.said))
            rendered.append(self._rendered(example))
        found = self._coded(rendered)
        tokens = [one if isinstance(one, masks.Coded) else masks.Coded(b"", b"") for one in found]
        return Part(
            b"".join(one.ids for one in tokens),
            b"".join(one.trained for one in tokens),
            [len(one.trained) for one in tokens],
            keys,
            source.lines.tolist(),
            source.places.tolist(),
            [(at, str(one)) for at, one in enumerate(found) if isinstance(one, TemplateRejects)],
        )

    def _rendered(self, example: Example) -> OrRefused:
        if not example.messages:
            return masks.Rendered("", (), prefixes=False)
        try:
            return masks.rendered(
                self._chat, example.messages, example.tools, assistant_only=self.assistant_only
            )
        except TemplateRejects as error:
            return error

    def _coded(self, rendered: Sequence[OrRefused]) -> list[masks.Coded | TemplateRejects]:
        taken = [one for one in rendered if isinstance(one, masks.Rendered)]
        coded = masks.coded(taken, self._coder)
        if self._coder is not self._chat.whole:
            plainly = masks.coded(taken[::_COMPARED], self._chat.whole)
            if list(map(str, coded[::_COMPARED])) != list(map(str, plainly)):
                raise Unfaithful
        found = iter(coded)
        return [one if isinstance(one, TemplateRejects) else next(found) for one in rendered]


def _here(coding: Coding, source: Source, told: Told | None) -> Iterator[Part]:
    for start in range(0, len(source), _ROWS):
        if told is not None:
            told(start, len(source))
        yield coding.part(source.part(start, start + _ROWS))


_coding: list[Coding] = []  # of a child


def _in_processes(
    coding: Coding, source: Source, told: Told | None, *, model: Model, count: int
) -> Iterator[Part]:
    given = (model, coding.assistant_only, coding.plain, os.getpid())
    waiting: deque[Future[Part]] = deque()
    starts = iter(range(0, len(source), _ROWS))
    done = 0
    pool = ProcessPoolExecutor(
        count, mp_context=get_context("spawn"), initializer=_begin, initargs=given
    )
    try:
        while True:
            while len(waiting) < 2 * count and (start := next(starts, None)) is not None:
                waiting.append(pool.submit(_part, source.part(start, start + _ROWS)))
            if not waiting:
                return
            if told is not None:
                told(done, len(source))
            part = waiting.popleft().result()
            done += len(part.sizes)
            yield part
    except BrokenProcessPool as error:
        text = "a process that makes tokens was killed, most likely for lack of memory"
        raise TrainerError(FailureKind.OUT_OF_MEMORY, text) from error
    finally:
        pool.shutdown(cancel_futures=True)
        waiting.clear()
        del pool
        gc.collect()  # its semaphores go with it: the trainer leaves without its exit handlers


def _begin(model: Model, assistant_only: bool, plain: bool, parent: int) -> None:  # noqa: FBT001
    """Set up a child: it leaves stopping to its parent, and ends when that is gone."""
    leave_it_to(parent)
    gc.freeze()  # what is loaded stays, and rows leave next to no cycles behind
    gc.set_threshold(50_000, 50, 100)
    _coding[:] = [Coding(model.chat(), assistant_only=assistant_only, plain=plain)]


def _part(source: Source) -> Part:
    return _coding[0].part(source)
