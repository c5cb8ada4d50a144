"""The family of mesh-free kernels: what each parameter does to a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.figures import Style
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d
from gradconv.nn.kernel_figure import (
    REACH,
    GaussianKernel,
    KernelSheet,
    draw_sheet,
    kernel_family,
    kernel_sheet,
)
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.tables import Table

LAYERS = {1: MeshFreeConv1d, 2: MeshFreeConv2d}
DEFAULTS: Record = {
    "dim": 2,
    "seed": 0,
    "widths": [1 / 64, 1 / 32],
    "terms": 2,
    "derivatives": 2,
    "points": 81,
}
STEPS = 999  # whole numbers from −STEPS to STEPS are kept of a panel's values
FAR = 16.0  # half side of the box that moments are taken over, in widths
NODES = 512  # an axis of that box: the rule of equal weights is exact to rounding for a Gaussian


@KINDS.register("kernels")
class Kernels(StudyKind):
    """Kernels of a layer with random weights and of its width, one parameter varied a row."""

    def parts(self, choices: Record) -> dict[str, Record]:
        for name in choices:
            if name not in DEFAULTS:
                raise unknown_name("choice of kernels", name, DEFAULTS)
        part = {**DEFAULTS, **choices}
        if part["dim"] not in LAYERS:
            raise InputError(f"`dim` must be 1 or 2; got {shortened(part['dim'])}")
        points, seed = part["points"], part["seed"]
        if not _whole(points) or points < 9 or points % 2 == 0:
            raise InputError(
                f"`points` must be an odd number of at least 9, so that one is the origin; "
                f"got {shortened(points)}"
            )
        check_whole("seed", seed, 0, 2**62)
        _layer(part)
        return {"kernels": part}

    def origin(self, part: Record) -> Origin:
        return Origin(part["seed"])

    def measure(self, part: Record, work: Workplace) -> Record:
        layer = _layer(part)
        sheet, family = kernel_sheet(layer, points=part["points"]), kernel_family(layer)
        rows = []
        for (title, values), (_, kernels) in zip(sheet.rows, family.rows, strict=True):
            panels = []
            for (label, shown), (_, terms) in zip(values, kernels, strict=True):
                largest = float(np.abs(shown).max())
                panels.append(
                    {
                        "label": label,
                        "largest": largest,
                        "values": np.rint(STEPS * shown / largest).astype(int).tolist(),
                        **_moments(terms, family.width),
                    }
                )
            rows.append({"title": title, "panels": panels})
        return {
            "reach": sheet.reach,
            "width": family.width,
            "rounded": f"values of a panel are whole numbers, of its largest value over {STEPS}",
            "steps": STEPS,
            "rows": rows,
        }

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        (result,) = results.values()
        rows = tuple(
            (
                row["title"],
                tuple(
                    (p["label"], p["largest"] / result["steps"] * np.array(p["values"]))
                    for p in row["panels"]
                ),
            )
            for row in result["rows"]
        )
        return [
            StudyFigure(
                name="kernels",
                caption=(
                    "Mesh-free kernels κ = P(∇) exp(∇·A∇ + b·∇) δ: a Gaussian of covariance 2A "
                    "about −b, and its derivatives. First row: a kernel of a layer with random "
                    "weights; then one parameter a row, about a Gaussian of the same width. Each "
                    "panel has a colour scale of its own, centred at zero (purple: positive); "
                    "lines at a quarter of the largest value, dashed where negative."
                ),
                alternative=" ".join(self.summary(results)),
                drawing=draw_sheet(KernelSheet(result["reach"], rows), style),
            )
        ]

    def tables(self, results: Results) -> list[Table]:
        (result,) = results.values()
        rows = tuple(
            (row["title"], panel["label"], *_cells(panel, result["width"]))
            for row in result["rows"]
            for panel in row["panels"]
        )
        return [
            Table(
                "moments",
                "Moments of the kernels by quadrature, lengths in widths of the layer's kernel; "
                "last: the largest difference from the closed form, relative to the largest "
                "moment. A kernel without mass has no centre, and one with "
                "negative parts may have no standard deviation.",
                ("row", "kernel", "mass ∫κ", "centre", "standard deviations", "off by"),
                rows,
            )
        ]

    def summary(self, results: Results) -> list[str]:
        (result,) = results.values()
        panels = [p for row in result["rows"] for p in row["panels"]]
        worst = max(p["off"] for p in panels)
        return [
            f"{len(panels)} kernels in {len(result['rows'])} rows; panels are "
            f"{2 * result['reach']:.2g} of the domain wide, {2 * REACH:g} standard deviations.",
            "Diffusion sets width, anisotropy and direction, drift moves by −b, derivatives make "
            "patterns: mass, centre and covariance are those of the closed form up to "
            f"{worst:.1e} of the largest moment.".replace("e-", "e−"),
        ]


def _layer(part: Record) -> Any:
    return LAYERS[part["dim"]](
        1,
        1,
        widths=tuple(part["widths"]) if isinstance(part["widths"], list) else part["widths"],
        terms=part["terms"],
        derivatives=part["derivatives"],
        generator=torch.Generator().manual_seed(part["seed"]),
    )


def _moments(terms: tuple[GaussianKernel, ...], width: float) -> Record:
    """Moments by quadrature, in widths, and their distance from the closed form."""
    dim = len(terms[0].drift)
    s = np.linspace(-FAR * width, FAR * width, NODES, endpoint=False)
    grid = np.meshgrid(*(s,) * dim, indexing="ij")
    weighted = sum(k.values(*grid) for k in terms) * (s[1] - s[0]) ** dim
    places, flat = np.stack(grid).reshape(dim, -1) / width, weighted.ravel()
    mass, first, second = float(flat.sum()), places @ flat, (places * flat) @ places.T
    closed = [
        sum(m[i] for m in (k.moments() for k in terms)) / width**i
        for i in range(3)  # of order i in a length
    ]
    pairs = list(zip((mass, first, second), closed, strict=True))
    scale = max(float(np.abs(c).max()) for _, c in pairs)
    off = max(float(np.abs(q - c).max()) for q, c in pairs) / scale
    return {"mass": mass, "first": first.tolist(), "second": second.tolist(), "off": off}


def _cells(panel: Record, width: float) -> tuple[str, ...]:
    mass, first = panel["mass"], np.array(panel["first"])
    off = f"{panel['off']:.1e}".replace("e-", "e−")
    if abs(mass) < 1e-6 * max(1.0, float(np.abs(first).max())):
        return "0", "–", "–", off
    centre = first / mass
    spread = np.array(panel["second"]) / mass - np.outer(centre, centre)
    squares = np.linalg.eigvalsh(spread)[::-1]
    deviations = ", ".join(f"{np.sqrt(v):.2f}" if v > 0 else "–" for v in squares)
    return (
        f"{mass:.3f}".replace("-", "−"),
        "(" + ", ".join(f"{v + 0.0:.2f}" for v in np.round(centre, 2)).replace("-", "−") + ")",
        deviations,
        off,
    )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
