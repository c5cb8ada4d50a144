"""What lies outside the box: the names of the paddings here, in the restrictions and in torch."""

from __future__ import annotations

from gradconv.errors import unknown_name

# The same wall in `gradconv.restriction`.
WALLS = {"periodic": "periodic", "reflect": "reflecting", "zero": "zero"}
PADDINGS = tuple(WALLS)
# Reflection about the faces of the domain is, one cell beyond them, what torch calls replication.
TORCH = {"periodic": "circular", "reflect": "replicate", "zero": "zeros"}
# Torch's "reflect", about the last point, has nothing closer here.
FROM_TORCH = {theirs: ours for ours, theirs in TORCH.items()} | {"reflect": "reflect"}
_ALIASES = {theirs: FROM_TORCH[theirs] for theirs in ("circular", "zeros")}


def checked_padding(mode: str) -> str:
    """Name of a padding, with torch's ``"circular"`` and ``"zeros"`` understood.

    Raises
    ------
    InputError
        If there is no such padding.
    """
    known = _ALIASES.get(mode, mode) if isinstance(mode, str) else mode
    if not isinstance(known, str) or known not in WALLS:
        raise unknown_name("padding_mode", mode, [*WALLS, *_ALIASES])
    return known
