"""How a task learns that its worker ends: a pipe whose writing end only the worker's parent holds.

The parent closes it when it is asked to shut down, and the kernel does when the parent is killed;
the child that works reads its end. Celery itself tells a running task nothing. Knows no job.
"""

import os
import select

_pipe: list[int] = []


def prepare() -> None:
    """Make the pipe; called in the parent before it forks."""
    if not _pipe:
        _pipe.extend(os.pipe())


def enter_child() -> None:
    """Close the writing end; called in each child after the fork."""
    if len(_pipe) > 1:
        os.close(_pipe.pop())


def announce() -> None:
    """Say that the worker ends; called in the parent."""
    if len(_pipe) > 1:
        os.close(_pipe.pop())


def worker_is_ending() -> bool:
    """Tell whether the parent is ending or gone."""
    if not _pipe:
        return False
    ready, _, _ = select.select([_pipe[0]], [], [], 0)
    return bool(ready)
