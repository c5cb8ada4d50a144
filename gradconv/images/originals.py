"""Files of published data sets: where they are looked for, and what is said if they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradconv.errors import InputError


def missing(source: str, needs: str, page: str, got: Path) -> InputError:
    """Error for data that are not there: what is expected where, and where to get it."""
    state = "what is there is incomplete" if got.exists() else "it does not exist"
    return InputError(
        f"`data` {source} must name a folder with {needs}, to be had from {page}; "
        f"got {got} ({state})"
    )


def map_bytes(source: str, path: Path, record: int, count: int | None) -> np.ndarray:
    """Map a file of equal records, shape ``(count, record)``, uint8, without reading it.

    Raises
    ------
    InputError
        If the file has another size; it is named.
    """
    size = path.stat().st_size
    if size == 0 or size % record or (count is not None and size != count * record):
        wanted = f"{count * record}" if count is not None else f"a multiple of {record}"
        raise InputError(
            f"`data` {source}: {path} must have {wanted} bytes, or it is truncated or another "
            f"file; got {size}"
        )
    return np.memmap(path, np.uint8, "r").reshape(-1, record)
