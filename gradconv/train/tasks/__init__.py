"""Tasks: what is done to a clean image before a network must undo it. One file each."""

from __future__ import annotations

from gradconv.train.tasks import (  # noqa: F401  (importing a file registers its task)
    deblur,
    denoise,
    inpaint,
    superres,
)
from gradconv.train.tasks.base import TASKS, Task

__all__ = ["TASKS", "Task"]
