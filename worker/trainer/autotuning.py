"""Which settings to try next, and which of the tried ones are best for a purpose. Pure.

A short walk, one choice at a time: what costs time to save memory is switched off or on first, then
the micro-batch grows or shrinks for as long as that pays. The rows of a step stay as many, so every
setting learns the same. Knows what was measured, not how.

fast       the most tokens a second
balanced   the least memory within 10 % of the fastest
small      the least memory
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

from app.runs import engines
from app.runs.spec import RunConfig
from app.runs.trying import ACCUMULATION, BATCH, CHECKPOINTING, QUANTIZATION, Mode
from worker.trainer import fitting
from worker.trainer.fitting import Changes

_NEAR_FASTEST = 0.9
_GAIN = 1.03  # a larger micro-batch that is not so much faster ends the walk


class Tried(Protocol):
    """What the choice needs to know of a try."""

    @property
    def changes(self) -> Changes:
        """What differs from the settings as asked."""
        ...

    @property
    def fits(self) -> bool:
        """Whether its steps could be done."""
        ...

    @property
    def speed(self) -> float:
        """Tokens a second; 0 where it does not fit."""
        ...

    @property
    def memory(self) -> int:
        """The peak in bytes."""
        ...


def best(trials: Sequence[Tried], mode: Mode) -> int:
    """Return the place of the best try for ``mode``; of equals the first. One at least fits."""
    fitting_ones = [place for place, one in enumerate(trials) if one.fits]
    fastest = max(trials[place].speed for place in fitting_ones)
    if mode is Mode.FAST:
        return max(fitting_ones, key=lambda place: (trials[place].speed, -place))
    near = [place for place in fitting_ones if trials[place].speed >= _NEAR_FASTEST * fastest]
    chosen = near if mode is Mode.BALANCED else fitting_ones
    return min(chosen, key=lambda place: (trials[place].memory, place))


def proposed(
    config: RunConfig,
    trials: Sequence[Tried],
    *,
    mode: Mode,
    device: str,
    fixed: Collection[str] = (),
) -> Changes | None:
    """Return the changes to try next, or None where nothing more is worth it.

    ``fixed`` are fields that stay: a model stored in 4 bits has no others.
    """
    done = [_settled(config, one.changes, device=device) for one in trials]
    for changes in _wanted(config, trials, mode=mode, device=device):
        if changes.keys() & set(fixed):
            continue
        if _settled(config, changes, device=device) not in done:
            return _minimal(config, changes, device=device)
    return None


def _wanted(
    config: RunConfig, trials: Sequence[Tried], *, mode: Mode, device: str
) -> Iterator[Changes]:
    """Yield what is worth a try by what is known now, the most promising first."""
    if not any(one.fits for one in trials):
        if last := fitting.smaller(fitting.applied(config, trials[-1].changes), device=device):
            yield {**trials[-1].changes, **last}
        return
    leader = dict(trials[_leader(trials, mode)].changes)
    now = fitting.applied(config, leader)
    if mode is Mode.SMALL:
        yield from _thriftier(now, leader, device)
        return
    if fitting.recomputes(now, device=device):
        yield {**leader, CHECKPOINTING: False}
    yield from _other_weights(now, leader, device)
    yield from _larger(now, leader, trials, config)


def _leader(trials: Sequence[Tried], mode: Mode) -> int:
    """Return the try to go on from: for ``balanced`` too the fastest, which sets the measure."""
    return best(trials, Mode.SMALL if mode is Mode.SMALL else Mode.FAST)


def _thriftier(now: RunConfig, leader: Changes, device: str) -> Iterator[Changes]:
    """Yield what saves memory without touching the examples."""
    if not fitting.recomputes(now, device=device):
        yield {**leader, CHECKPOINTING: True}
    if device == "cuda" and fitting.takes_nf4(now):
        yield {**leader, QUANTIZATION: "nf4"}
    if now.training.batch_size > 1:
        yield {**leader, **fitting.split_batch(now, most=1)}


def _other_weights(now: RunConfig, leader: Changes, device: str) -> Iterator[Changes]:
    """Yield the weights in 16 bits for 4 or the other way; models stored in 4 bits stay so."""
    if device != "cuda":
        return
    if now.quantization == "nf4":
        plain = {**leader, QUANTIZATION: "none"}
        if not engines.refusals(fitting.applied(now, {QUANTIZATION: "none"}), device_kind=device):
            yield plain
    elif fitting.takes_nf4(now):
        yield {**leader, QUANTIZATION: "nf4"}


def _larger(
    now: RunConfig, leader: Changes, trials: Sequence[Tried], config: RunConfig
) -> Iterator[Changes]:
    """Yield the next larger micro-batch while the last growth paid, else the next smaller one."""
    size = now.training.batch_size
    rows = size * now.training.gradient_accumulation
    larger = next(
        (one for one in range(size + 1, rows + 1) if rows % one == 0 and one >= 2 * size), None
    )
    if larger is None and size < rows:
        larger = rows
    if larger is not None and not _stalled(trials, config):
        yield {**leader, BATCH: larger, ACCUMULATION: rows // larger}
    if size > 1 and size == config.training.batch_size:
        yield {**leader, **fitting.split_batch(now, most=size // 2)}


def _stalled(trials: Sequence[Tried], config: RunConfig) -> bool:
    """Tell whether the largest micro-batch was tried and gave next to nothing, or did not fit."""

    def size(one: Tried) -> Any:
        return one.changes.get(BATCH, config.training.batch_size)

    largest = max(trials, key=lambda one: (size(one), one.speed))
    rest = [one.speed for one in trials if size(one) < size(largest)]
    return bool(rest) and largest.speed < _GAIN * max(rest)


def _settled(config: RunConfig, changes: Changes, *, device: str) -> tuple[Any, ...]:
    """Return what tells two tries apart."""
    now = fitting.applied(config, changes)
    training = now.training
    recomputes = fitting.recomputes(now, device=device)
    return (training.batch_size, recomputes, now.quantization, training.max_length)


def _minimal(config: RunConfig, changes: Changes, *, device: str) -> Changes:
    """Leave out what is as it was asked for anyway."""
    was = _settled(config, {}, device=device)
    asked = {BATCH: was[0], CHECKPOINTING: was[1], QUANTIZATION: was[2]}
    kept = {name: value for name, value in changes.items() if asked.get(name, ...) != value}
    if BATCH not in kept:
        kept.pop(ACCUMULATION, None)
    return kept
