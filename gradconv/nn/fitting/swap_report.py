"""What a swap did: one row a convolution, as a table or as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SwapRow:
    """One convolution of the module.

    Attributes
    ----------
    name : str
        Its name in the module; empty if it is the module.
    aliases : tuple of str
        Its other names, if it stands in several places.
    old, new : str, str or None
        What it was; the type that took its place, None if it stayed.
    mesh : tuple of int or None
        Points an axis of the mesh that it works on; None if none or several were seen.
    parameters, new_parameters : int, int or None
        Numbers of parameters before and after.
    relative_error, operator_error : float or None
        Of the fit, see `StencilFit`; None if none was tried.
    resolvable : float or None
        Share of the channel pairs whose own error is within the tolerance.
    narrowest : float or None
        Least standard deviation of the fitted kernels, in cells of the mesh.
    note : str
        What is not the same in the swapped module.
    reason : str
        Why it stayed; empty if it was swapped.
    """

    name: str
    old: str
    parameters: int
    mesh: tuple[int, ...] | None
    aliases: tuple[str, ...] = ()
    new: str | None = None
    new_parameters: int | None = None
    relative_error: float | None = None
    operator_error: float | None = None
    resolvable: float | None = None
    narrowest: float | None = None
    note: str = ""
    reason: str = ""

    @property
    def resolved(self) -> bool | None:
        """Whether no kernel is narrower than a cell of the mesh; None if nothing was fitted."""
        return None if self.narrowest is None else self.narrowest >= 1.0


@dataclass(frozen=True)
class SwapReport:
    """What was swapped, what not, and the errors.

    Attributes
    ----------
    mesh : tuple of int
        Points an axis of the module's inputs.
    rows : tuple of SwapRow
        Every convolution of the module, in order.
    """

    mesh: tuple[int, ...]
    rows: tuple[SwapRow, ...]

    @property
    def swapped(self) -> tuple[SwapRow, ...]:
        """Rows of what was replaced."""
        return tuple(row for row in self.rows if row.new is not None)

    @property
    def kept(self) -> tuple[SwapRow, ...]:
        """Rows of what stayed."""
        return tuple(row for row in self.rows if row.new is None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, fit for JSON."""
        rows = [{**asdict(row), "resolved": row.resolved} for row in self.rows]
        for row in rows:
            row["aliases"] = list(row["aliases"])
            row["mesh"] = None if row["mesh"] is None else list(row["mesh"])
        return {"mesh": list(self.mesh), "rows": rows}

    def __str__(self) -> str:
        """Write a table, one line a convolution."""
        head = ("module", "was", "mesh", "parameters", "error", "worst", "resolved", "result")
        lines: list[tuple[str, ...]] = [head, *(_line(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        text.append(
            f"{len(self.swapped)} of {len(self.rows)} convolutions swapped. error: relative, of "
            "the output for the expected spectrum; worst: in the operator norm; resolved: no "
            "kernel narrower than a cell"
        )
        return "\n".join(text)


def _line(row: SwapRow) -> tuple[str, ...]:
    counts = str(row.parameters)
    if row.new_parameters is not None:
        counts += f" → {row.new_parameters}"
    result = f"kept: {row.reason}"
    if row.new is not None:
        result = row.new + (f" ({row.note})" if row.note else "")
    resolved = "–"
    if row.narrowest is not None:
        resolved = "yes" if row.resolved else f"no, {row.narrowest:.2f} cells"
    return (
        " = ".join((row.name or "(module)", *row.aliases)),
        row.old,
        "–" if row.mesh is None else "×".join(str(n) for n in row.mesh),
        counts,
        _number(row.relative_error),
        _number(row.operator_error),
        resolved,
        result,
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
