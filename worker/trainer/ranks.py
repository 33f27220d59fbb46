"""One run on several cards: each rank trains its share of a step's rows, and all make the same step.

Gradients are sums over learned tokens, so adding them up over the ranks gives the gradient of one
card, whatever the number of cards: losses stay the same, and a run may go on with more or fewer.
Rank 0 is the trainer's own process; it alone tells, saves and measures. The others are its
children, each with one card, and do not outlive it. Knows processes and sums; no model, no recipe.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from worker.trainer.stopping import Leave

if TYPE_CHECKING:
    import torch

One = TypeVar("One")

_MEETING, _FAILURE = ".meeting", ".failure-of-rank-{}"
_PATIENCE = timedelta(hours=2)  # one rank saves or loads while the others wait
_WATCH_SECONDS = 0.5
_WISHES: tuple[Leave | None, ...] = (None, *Leave)

# kind, evidence, detail
Told = tuple[str, str, str | None]


class Ranks:
    """The ranks of a run as one of them sees it; of a single one nothing is asked."""

    def __init__(self, own: int = 0, count: int = 1) -> None:
        self.own, self.count = own, count
        self._talk: Any = None  # a group that needs no card

    @property
    def is_first(self) -> bool:
        """Tell whether this is the rank that tells, saves and measures."""
        return self.own == 0

    def join(self, folder: Path, *, device: str) -> None:
        """Meet the others; they find each other by a file in the job's folder."""
        if self.count == 1:
            return
        import torch.distributed as dist

        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            init_method=f"file://{folder / _MEETING}",
            rank=self.own,
            world_size=self.count,
            timeout=_PATIENCE,
        )
        self._talk = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def share(self, rows: Sequence[One]) -> Sequence[One]:
        """Return the rows that this rank trains."""
        return rows[self.own :: self.count]

    def add_up(self, parameters: Iterable["torch.nn.Parameter"], *sums: "torch.Tensor") -> None:
        """Replace gradients and sums by those over all ranks; a rank without rows adds nothing."""
        if self.count == 1:
            return
        import torch
        import torch.distributed as dist

        trained = list(parameters)
        for one in trained:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        for alike in _by_type([one.grad for one in trained if one.grad is not None] + [*sums]):
            flat = torch.cat([one.reshape(-1) for one in alike])
            dist.all_reduce(flat)
            parts = flat.split([one.numel() for one in alike])
            for one, part in zip(alike, parts, strict=True):
                one.copy_(part.view_as(one))

    def agree(self, wish: Leave | None) -> Leave | None:
        """Return rank 0's wish, so that all leave after the same step."""
        if self.count == 1:
            return wish
        import torch
        import torch.distributed as dist

        told = torch.tensor(_WISHES.index(wish))
        dist.broadcast(told, src=0, group=self._talk)
        return _WISHES[int(told)]

    def sum(self, value: float) -> float:
        """Return the sum of a number over all ranks."""
        if self.count == 1:
            return value
        import torch
        import torch.distributed as dist

        told = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(told, group=self._talk)
        return told.item()

    def seed(self, seed: int, step: int) -> None:
        """Give a rank its own chance for a step; the first one's is part of the checkpoint."""
        if not self.is_first:
            import torch

            torch.manual_seed(hash((seed, step, self.own)))

    @contextmanager
    def first_one_first(self) -> Iterator[None]:
        """Let rank 0 do something before the others do it, who then find what it made."""
        if not self.is_first:
            self.meet()
        yield
        if self.is_first:
            self.meet()

    def meet(self) -> None:
        """Wait until all ranks are here."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier(group=self._talk)

    def leave(self) -> None:
        """Part from the others, in order, before the process ends."""
        if self.count > 1:
            import torch.distributed as dist

            with suppress(RuntimeError):
                dist.destroy_process_group()


ALONE = Ranks()


def _by_type(tensors: Iterable["torch.Tensor"]) -> Iterable[list["torch.Tensor"]]:
    found: dict[Any, list[torch.Tensor]] = {}
    for one in tensors:
        found.setdefault(one.dtype, []).append(one)
    return found.values()


class Crew:
    """Rank 0's children; ``failed`` hears what the first of them died of, if one does."""

    def __init__(self, folder: Path, count: int, *, failed: Callable[[Told], None]) -> None:
        self._folder, self._failed = folder, failed
        (folder / _MEETING).unlink(missing_ok=True)
        cards = _visible_cards()
        if cards:
            os.environ["CUDA_VISIBLE_DEVICES"] = cards[0]  # noqa: TID251  # before torch is there
        self._children = [
            self._start(rank, cards[rank] if cards else None, count) for rank in range(1, count)
        ]
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _start(self, rank: int, card: str | None, count: int) -> subprocess.Popen[bytes]:
        (self._folder / _FAILURE.format(rank)).unlink(missing_ok=True)
        inherited = os.environ.copy()  # noqa: TID251  # for a child
        if card is not None:
            inherited["CUDA_VISIBLE_DEVICES"] = card
        names = ("rank", str(self._folder), str(rank), str(count))
        return subprocess.Popen([sys.executable, "-m", "worker.trainer", *names], env=inherited)

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_SECONDS):
            for rank, child in enumerate(self._children, start=1):
                if child.poll():
                    told = self._told(rank, child.returncode)
                    self.end()
                    self._failed(told)
                    return

    def _told(self, rank: int, code: int) -> Told:
        try:
            kind, evidence, detail = json.loads(
                (self._folder / _FAILURE.format(rank)).read_text(encoding="utf-8")
            )
        except (OSError, ValueError):
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return "internal", f"the process of card {rank + 1} ended by {how}", None
        return kind, f"card {rank + 1}: {evidence}", detail

    def end(self) -> None:
        """End the children that are still there."""
        self._over.set()
        for child in self._children:
            with suppress(ProcessLookupError):
                child.kill()
            child.wait()
        (self._folder / _MEETING).unlink(missing_ok=True)


@contextmanager
def led(folder: Path, count: int, *, failed: Callable[[Told], None]) -> Iterator[Ranks]:
    """Start the other ranks of a run, give rank 0's view of them, and end them.

    To be entered before torch is imported: from here on this process sees one card.
    """
    if count == 1:
        yield ALONE
        return
    crew = Crew(folder, count, failed=failed)
    try:
        yield Ranks(0, count)
    finally:
        crew.end()


def _visible_cards() -> list[str]:
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")  # noqa: TID251  # what was leased
    return [card for card in shown.split(",") if card]


def write_failure(folder: Path, rank: int, told: Told) -> None:
    """Leave word for rank 0 of what this rank died of."""
    (folder / _FAILURE.format(rank)).write_text(json.dumps(told), encoding="utf-8")
