"""How a law of a norm was derived, line by line: symbol, expansion, moments, result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.laws.expansion import transfer_series
from gradconv.laws.formulas import Writer
from gradconv.laws.formulas_grid import expand_series
from gradconv.laws.law import precedence

if TYPE_CHECKING:
    from gradconv.laws.law import QuantityLaw

LONGEST = 400  # characters of a line
MOST = 12  # lines of one kind

_REGIONS = {
    "inner": "inner region, k of order 1: kernel and restriction expanded in h, moments of the "
    "spectrum",
    "outer": "outer region, k of order 1/h: the spectrum's tail integrated over the frequencies "
    "of a cell",
    "flat": "flat spectrum: the covariance of restricted independent pixels in closed form",
    "alias": "aliases of the spectrum's tail at fixed k",
    "boundary": "end of the band: corrections of the trapezoidal rule",
}


def norm_steps(law: QuantityLaw, writer: Writer | None) -> tuple[str, ...]:
    """Lines from the kernel's symbol to the law of a norm."""
    found = ["E g = Σ_k Re[conj(∂σ)(σ P(k) − C(k))], P the input's power, C its part in the target"]
    if writer is not None:
        found += _at_most(_symbol(writer))
        found += _at_most(_expansion(writer))
        found += _restriction(writer)
        found += _densities(writer)
    for t in sorted(law.vectors, key=precedence):
        powers = f"h^{t.exponent:g}" + (f" h_L^{t.fine_exponent:g}" if t.fine_exponent else "")
        powers += " log(1/h)" if t.logs else ""
        size = float(np.linalg.norm(t.vector))
        found.append(f"{t.origin}, {_REGIONS[t.region]}: {powers}, norm {size:.4g}")
    if law.written.reason:
        found.append(f"constants in numbers: {law.written.reason}")
    for meaning in law.symbols.values():
        definitions = list(meaning.definitions)
        found += [_shortened(f"{left} = {right}") for left, right in definitions[:MOST]]
        if len(definitions) > MOST:
            found.append(f"… and {len(definitions) - MOST} more entries")
    if law.terms:
        found.append(_shortened(f"{law.quantity} ~ {law.written.parts[0]}"))
        for symbol, meaning in law.symbols.items():
            value = f" = {meaning.value:.8g}" if np.ndim(meaning.value) == 0 else ""
            found.append(f"{symbol}{value}: {meaning.text}")
        lead = law.terms[0]
        powers = f" h^{lead.exponent:g}" + (
            f" h_L^{lead.fine_exponent:g}" if lead.fine_exponent else ""
        )
        powers += " log(1/h)" if lead.logs else ""
        found.append(f"{law.quantity} ~ {lead.coefficient:.8g}{powers}")
    return tuple(found)


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _at_most(lines: Iterator[str]) -> list[str]:
    found = [_shortened(line) for line in lines]
    if len(found) > MOST:
        return [*found[:MOST], f"… and {len(found) - MOST} more of the kind"]
    return found


def _symbol(writer: Writer) -> Iterator[str]:
    """The kernel's symbol or its slopes, as the kernel gives them."""
    formula, names = writer.formula, writer.kernel.parameter_names
    if formula.symbol is not None:
        yield f"σ(k) = {formula.symbol}"
    if formula.index:
        place = ", ".join(map(str, formula.index))
        yield f"∂σ/∂θ[{place}] = {formula.slopes[0]}, σ = Σ θ[{place}] ∂σ/∂θ[{place}]"
        return
    for name, slope in zip(names, formula.slopes, strict=True):
        yield f"∂σ/∂{name} = {slope}"


def _expansion(writer: Writer) -> Iterator[str]:
    if writer.grid:
        yield from expand_series(writer.problem)


def _restriction(writer: Writer) -> list[str]:
    """The transfer of one step, and that of all steps expanded."""
    transfer, name = writer.transfer, writer.problem.restriction.name
    if transfer.cut:
        return [f"restriction {name}: what is below the coarse mesh's Nyquist mode is kept"]
    two, four = transfer.cumulants
    found = [f"restriction {name}: log|T₂(θ)|² = {two:.6g} θ² + {four:.6g} θ⁴ + … an axis"]
    series = transfer_series(writer.problem, transfer, "signal")
    lines = []
    for (a, b), polynomial in sorted(series.items()):
        if 0 < a + b <= 2:
            powers = (f"h^{a} " if a else "") + (f"h_L^{b} " if b else "")
            lines += [f"{c:+.6g} {powers}k{mu.index(max(mu)) + 1}²" for mu, c in polynomial.items()]
    if lines:
        found.append("all steps: |T(k)|² = 1 " + " ".join(lines) + " + …")
    return found


def _densities(writer: Writer) -> list[str]:
    found = []
    for origin in ("signal", "noise"):
        density = writer.density(origin)
        if density is None:
            continue
        if density.modes is not None:
            found.append(f"{origin}: {len(density.modes)} modes")
            continue
        body: Any = density.constant
        mesh = "" if density.mesh_symbol == 0 else f" h^({density.mesh_symbol})"
        decay = ""
        if density.alpha_symbol != 0:
            shift = "" if density.shift_symbol == 0 else f"{density.shift_symbol} + "
            decay = f" ({shift}|j|²)^(−({density.alpha_symbol})/2)"
        without = "" if density.origin else ", j = 0 left out"
        found.append(f"{origin}: S(2πj) = {body}{mesh}{decay}{without}")
    return found
