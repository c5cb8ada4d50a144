"""Figures in every style: width, sizes of text, nothing cut or overlapping, the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from gradconv import Problem
from gradconv.atlas.figures import critical_figure, phase_figure
from gradconv.audit.figure import audit_figure
from gradconv.claims.figures import claim_figure
from gradconv.config import SweepConfig
from gradconv.errors import InputError
from gradconv.figures import KINDS, SCREEN, STYLES, Style, figure_bytes, find_style, mesh_axis
from gradconv.multilevel.diagnosis.diagnosing import diagnose
from gradconv.multilevel.diagnosis.figure import diagnosis_figure
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d
from gradconv.nn.feature_map_figure import draw_feature_maps
from gradconv.nn.feature_maps import FeatureMaps
from gradconv.nn.kernel_figure import draw_sheet, kernel_sheet
from gradconv.plots import gap_figure
from gradconv.runner import run
from gradconv.train.curves import RunCurves, curves_figure
from gradconv.train.logs import COLUMNS

Draw = Callable[[Style], Figure]
Record = dict[str, Any]
SMALLEST = 5.5  # points, on paper
GREY = 0.04  # of luminance, from which colours differ without their hue


# ---- what is drawn: small records of every figure function ----


def sweep(**choices: Any) -> list[Record]:
    config = {"dim": (1,), "levels": "3:7", "replicates": 4, "restriction": ("average",)}
    return run(SweepConfig(**{**config, **choices})).records


def gap(quantity: str = "mean_gap", order: float = 2.0, **choices: Any) -> Record:
    h = [2.0**-k for k in range(4, 9)]
    return {
        "case": f"{quantity}{order}{choices}",
        **{"quantity": quantity, "h": h, "values": [3.0 * v**order for v in h]},
        **{"stderr": [0.1 * v**order for v in h], "window": [1, 4], "coefficient": 3.0},
        **{"order": order, "order_interval": [order - 0.1, order + 0.1]},
        **{"verdict": "converges" if order > 0 else "diverges"},
        "choices": choices,
    }


CLAIM = {"number": 2, "title": "A claim", "verdict": "holds only if", "condition": "d = 1 " * 40}


def orders_claim() -> Record:
    found = [
        gap(quantity, order, dim=dim, noise=noise, target="identity", **place)
        for dim in ("1", "2")
        for noise, order in (("pixel noise", -1.0), ("power-law noise (α < d)", 0.5))
        for place in (
            {"setting": "coarsening", "restriction": "average"},
            {"setting": "refinement", "restriction": "full_weighting"},
        )
        for quantity in ("mean_gap", "rms_gap")
    ]
    laws = [{**m, "values": []} for m in found]
    return {**CLAIM, "measurement": found, "law": laws}


def scale_claim() -> Record:
    points = [
        {"cells": c, "value": 10.0 ** (-2 * c), "choices": {"dim": d}}
        for d in ("1", "2")
        for c in (0.5, 1.0, 2.0)
    ]
    sizes = [16, 17, 32, 33, 64]
    control = {"control": {"values": [0.1] * 5}, "values": [1e-15] * 5, "n": sizes}
    bands = [{**control, "choices": {"dim": d}} for d in ("1", "2")]
    return {**CLAIM, "measurement": [*points, *bands], "law": points}


def criteria_claim() -> Record:
    law = {"quantity": "ratio", "threshold": 4.0, "relation": "at least"}
    law["statement"] = "cost of one scale over that of full multiscale training ≥ 4 " * 3
    rows = [
        {
            **{"quantity": "ratio", "value": v, "interval": [0.9 * v, 1.2 * v], "grade": g},
            "choices": {"task": "super-resolution", "network": f"UNet {g}", "cost": "seconds"},
        }
        for v, g in ((2.0, "fails"), (4.0, "undecided"), (9.0, "holds"), (17.0, "holds"))
    ]
    other = {"quantity": "bias", "threshold": 0.0, "relation": "equal", "statement": "bias = 0"}
    return {**CLAIM, "measurement": rows, "law": [law, other]}


def atlas() -> Record:
    cells = []
    for kernel in ("stencil", "mfc"):
        for setting in ("coarsening", "refinement"):
            for dim in (1, 2, 3):
                for noise in (
                    "none",
                    "pixel:0.5",
                    f"power:{dim / 2}",
                    "salt-and-pepper",
                    "poisson",
                ):
                    for restriction in ("average", "bilinear_corners", "injection"):
                        order = -1.0 if kernel == "stencil" and noise != "none" else 2.0
                        gone = restriction == "bilinear_corners"
                        verdict = "undecided" if gone else "diverges" if order < 0 else "converges"
                        status = "explained" if gone else "agrees"
                        own = {"derived": {"order": order, "verdict": verdict}, "status": status}
                        cells.append(
                            {
                                **{"kernel": kernel, "setting": setting, "dim": dim},
                                **{"noise": noise, "restriction": restriction},
                                **{"target": "identity", "status": status},
                                "quantities": {"mean_gap": own},
                            }
                        )
    return {"cells": cells}


def critical() -> list[Record]:
    alpha = [0.2, 0.9, 1.6, 2.9]
    return [
        {
            **{"kernel": kernel, "setting": setting, "dim": dim, "quantity": quantity},
            **{"alpha": alpha, "order": [a - dim for a in alpha], "zeros": [0.5 * (i + 1) * dim]},
            "points": [
                {"alpha": a, "order": a - dim, "interval": [a - dim - 0.5, a]} for a in alpha
            ],
        }
        for kernel in ("stencil", "mfc")
        for setting in ("coarsening", "refinement")
        for dim in (1, 2)
        for i, quantity in enumerate(("variance", "mean_gap"))
    ]


def audited() -> Record:
    names = ["opening", "hidden.0.0", "hidden.0.1.convolution", "closing"]
    rates = [
        {**gap(quantity, order), "group": group, "kind": kind}
        for quantity, order in (("rms_gap", -1.0), ("mean_gap", 2.0))
        for group, kind in (("whole", "whole"), *((n, "layer") for n in names))
    ]
    return {
        "provenance": {"configuration": {"module": "package.module:Network"}},
        **{"rates": rates, "aliasing": gap(), "findings": [], "verdict": "diverges"},
    }


def curves(count: int) -> list[RunCurves]:
    steps = np.arange(1.0, 25.0)
    runs = []
    for place in range(count):
        tables: dict[str, dict[str, np.ndarray]] = {
            name: {c: np.full(len(steps), np.nan) for c in columns}
            for name, columns in COLUMNS.items()
        }
        tables["steps"] |= {"step": steps, "work": 3 * steps, "seconds": steps / 7}
        tables["steps"]["loss"] = np.exp(-steps / 20) + 0.1 * (place + 1)
        levels = np.tile(np.arange(4.0), 6)
        falling = np.exp(-steps / 30 - levels)
        tables["levels"] |= {"step": steps, "level": levels, "norm": falling}
        tables["levels"]["variance"] = 1e-3 * falling**2
        tables["validation"] |= {"work": 3 * steps, "seconds": steps / 7}
        tables["validation"] |= {"mse": 0.02 + falling, "psnr": 20 + steps / 9}
        runs.append(RunCurves("full multiscale training", *tables.values()))
    return runs


def maps() -> FeatureMaps:
    generator = np.random.default_rng(0)
    sizes = (8, 16, 32)
    fields = tuple(generator.normal(size=(2, n, n)) for n in sizes)
    names = ("mesh-free", "standard 3 × 3")
    return FeatureMaps(sizes, dict.fromkeys(names, fields), dict.fromkeys(names, (0.2, 0.01, 0.0)))


def gap_two() -> Draw:
    records = sweep(noise=("none", "pixel:20"))
    return lambda style: gap_figure(records, "A headline", style)


def gap_six() -> Draw:
    records = sweep(
        noise=("none", "pixel:0.5", "white:0.05"), restriction=("average", "spectral"), dim=(1,)
    )
    return lambda style: gap_figure(records, "A headline", style)


def gap_one() -> Draw:
    records = sweep(kernel=("gaussian-derivative:2:0.123456", "stencil:5"), noise=("pixel:20",))
    return lambda style: gap_figure(records, "", style)


def diagnosed() -> Draw:
    problem = Problem("stencil", noise="pixel:0.5", dim=1)
    document = diagnose(problem, hierarchy=(16, 32, 64, 128), samples=16, repetitions=0).to_dict()
    return lambda style: diagnosis_figure(document, style=style)


def sheets(layer: type[Any], **options: Any) -> Draw:
    torch.manual_seed(0)
    sheet = kernel_sheet(layer(1, 1, **options), points=21)
    return lambda style: draw_sheet(sheet, style)


FIGURES: dict[str, Callable[[], Draw]] = {
    "gap of two panels": gap_two,
    "gap of six panels": gap_six,
    "gap of one panel": gap_one,
    "phase diagram": lambda: lambda style: phase_figure(atlas(), style),
    "critical exponents": lambda: lambda style: critical_figure(critical(), style),
    "claim on orders": lambda: lambda style: claim_figure(orders_claim(), style),
    "claim on scale": lambda: lambda style: claim_figure(scale_claim(), style),
    "claim with criteria": lambda: lambda style: claim_figure(criteria_claim(), style),
    "kernels in 1-D": lambda: sheets(MeshFreeConv1d),
    "kernels in 2-D": lambda: sheets(MeshFreeConv2d, terms=3, derivatives=1),
    "feature maps": lambda: lambda style: draw_feature_maps(maps(), (0, 1), "Maps", style),
    "audit": lambda: lambda style: audit_figure(audited(), style=style),
    "curves of one run": lambda: lambda style: curves_figure(curves(1), style),
    "curves of three runs": lambda: lambda style: curves_figure(curves(3), style),
    "diagnosis": diagnosed,
}
# As wide as a column; the others span the page.
COLUMN = ("gap of one panel", "kernels in 1-D", "kernels in 2-D")
MADE: dict[str, Draw] = {}


def drawn(name: str, style: Style) -> Figure:
    if name not in MADE:
        MADE[name] = FIGURES[name]()
    return MADE[name](style)


# ---- what is held against them ----


def texts(figure: Figure) -> Iterator[Text]:
    """Every text that is seen; labels of ticks only where a tick is."""
    parts = [figure, *figure.subfigs]
    for part in parts:
        yield from part.texts
        for text in (part._suptitle, part._supxlabel, part._supylabel):  # type: ignore[attr-defined]
            if text is not None:
                yield text
        for legend in part.legends:
            yield from legend.get_texts()
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        yield from axes.texts
        yield from (axes.title, axes._left_title, axes._right_title)  # type: ignore[attr-defined]
        yield from (axes.xaxis.label, axes.yaxis.label)
        yield from tick_labels(axes.xaxis)
        yield from tick_labels(axes.yaxis)
        if axes.get_legend():
            yield from axes.get_legend().get_texts()


def tick_labels(axis: Any) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    place = 0 if axis.axis_name == "x" else 1
    labels = axis.get_majorticklabels() + axis.get_minorticklabels()
    return [t for t in labels if t.get_visible() and low <= t.get_position()[place] <= high]


def complaints(figure: Figure, style: Style, width: float) -> list[str]:
    """What is wrong with a figure's width and texts."""
    found = []
    if figure.get_figwidth() != width:
        found.append(f"{figure.get_figwidth()} inches wide, not {width}")
    with style.apply():
        canvas = FigureCanvasAgg(figure)
        figure.set_dpi(300)
        canvas.draw()
        boxes = {}
        for text in texts(figure):
            if not text.get_text().strip() or not text.get_visible():
                continue
            if style.paper and text.get_fontsize() < SMALLEST:
                found.append(f"{text.get_text()!r} is of {text.get_fontsize():.1f} points")
            boxes[text] = text.get_window_extent(canvas.get_renderer())
        slack = 300 / 72 * 0.6
        whole = figure.bbox.padded(slack)
        for text, box in boxes.items():
            if not (whole.x0 <= box.x0 and box.x1 <= whole.x1):
                found.append(f"{text.get_text()!r} is cut at a side")
            if not (whole.y0 <= box.y0 and box.y1 <= whole.y1):
                found.append(f"{text.get_text()!r} is cut above or below")
        for (a, first), (b, second) in combinations(boxes.items(), 2):
            over = [
                min(first.x1, second.x1) - max(first.x0, second.x0),
                min(first.y1, second.y1) - max(first.y0, second.y0),
            ]
            if min(over) > slack and a.get_text() != b.get_text():
                found.append(f"{a.get_text()!r} lies on {b.get_text()!r}")
    return found


def luminance(colour: Any) -> float:
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))


def alike_in_grey(figure: Figure) -> list[tuple[str, str]]:
    """Entries of one legend that nothing but hue tells apart."""
    legends = [legend for part in (figure, *figure.subfigs) for legend in part.legends]
    legends += [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    found = []
    for legend in legends:
        looks = []
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if not hasattr(handle, "get_marker"):
                continue
            marker = str(handle.get_marker())
            line = str(handle.get_linestyle()), handle._dash_pattern  # type: ignore[attr-defined]
            if marker in ("", "None") and line[0] == "None":
                continue  # goes on from the line above
            look = (marker, line, str(handle.get_markerfacecolor()) == "none")
            looks.append((text.get_text(), look, luminance(handle.get_color())))
        for (a, first, grey), (b, second, other) in combinations(looks, 2):
            if first == second and abs(grey - other) < GREY:
                found.append((a, b))
    return found


@pytest.mark.parametrize("style", STYLES.values(), ids=list(STYLES))
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_follows_its_style(name: str, style: Style) -> None:
    figure = drawn(name, style)
    width = style.column if name in COLUMN else style.full
    assert complaints(figure, style, width) == []
    assert alike_in_grey(figure) == []
    assert (figure._suptitle is None) or not style.paper  # type: ignore[attr-defined]
    fonts = {text.get_fontfamily()[0] for text in texts(figure)}
    assert fonts == ({"STIXGeneral"} if style.serif else {"sans-serif"})


@pytest.mark.parametrize("name", ["gap of two panels", "critical exponents"])
def test_the_same_data_give_the_same_bytes(name: str) -> None:
    style = find_style("two-column")
    first, second, other = (
        {kind: figure_bytes(figure, kind, style) for kind in KINDS}
        for figure in (drawn(name, style), drawn(name, style), drawn("audit", style))
    )
    assert first == second
    assert all(first[kind] != other[kind] for kind in KINDS)  # control
    assert b"Date" not in first["pdf"]


def test_a_png_has_the_pixels_of_its_style() -> None:
    from PIL import Image

    for style in STYLES.values():
        picture = Image.open(io.BytesIO(figure_bytes(drawn("audit", style), "png", style)))
        assert picture.width == int(style.full * style.dpi)


def test_styles_are_those_of_pages() -> None:
    sizes = {s.name: (s.column, s.full, s.paper) for s in STYLES.values()}
    assert sizes["one-column"][1:] == (6.5, True)
    assert sizes["two-column"] == (3.5, 7.16, True)
    assert not SCREEN.paper
    for style in STYLES.values():
        if style.paper:
            assert style.font * 0.694 >= SMALLEST  # "x-small"
            assert style.dpi == 300
    with pytest.raises(InputError, match=r"`style` must be one of .*; did you mean 'two-column'"):
        find_style("two-colum")


# ---- negative controls of the checks ----


def test_what_is_wrong_is_seen() -> None:
    style = find_style("two-column")

    def made(change: Callable[[Any], object]) -> list[str]:
        with style.apply():
            figure = Figure(figsize=(style.column, 2.0), layout="constrained")
            axes = figure.subplots()
            axes.plot([0, 1], [0, 1])
            change(axes)
        return complaints(figure, style, style.column)

    assert made(lambda axes: None) == []
    assert made(lambda axes: axes.figure.set_figwidth(4.0)) == ["4.0 inches wide, not 3.5"]
    assert "of 4.0 points" in made(lambda axes: axes.text(0.5, 0.2, "small", fontsize=4))[0]
    cut = made(lambda axes: axes.text(0.5, 0.5, "long " * 30, in_layout=False))
    assert "is cut at a side" in cut[0]
    assert "is cut above" in made(lambda axes: axes.text(0.5, 7.0, "high", in_layout=False))[0]
    ticks = made(lambda axes: axes.set_xticks([0.5, 0.51], ["first", "second"]))
    assert ticks == ["'first' lies on 'second'"]

    def greys(**second: Any) -> list[tuple[str, str]]:
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1], color="#0072B2", marker="o", label="a")
        axes.plot([0, 1], **{"color": "#0072B2", "marker": "o", "label": "b", **second})
        axes.legend()
        return alike_in_grey(figure)

    assert greys() == [("a", "b")]
    assert greys(color="#B2331A") == [("a", "b")]  # another hue alone
    assert greys(color="#D55E00") == greys(marker="s") == greys(linestyle="--") == []


def test_every_glyph_of_the_styles_exists() -> None:
    """A missing one is a warning, hence an error."""
    signs = "−–·×∇∂‖ℓαβγδεηθκλμνξπρστφψωΔΣΩ⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵈ₀₁₂₃ₗ≤≥≈∝∞√½…→±“”∣∥′°"
    for style in STYLES.values():
        with style.apply():
            figure = Figure()
            figure.text(0.1, 0.5, signs)
            figure_bytes(figure, "pdf", style)
            figure.text(0.1, 0.3, "\N{CJK UNIFIED IDEOGRAPH-4E00}")
            with pytest.warns(UserWarning, match="missing from font"):
                figure_bytes(figure, "png", style)  # control
    assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]


@pytest.mark.parametrize("count", [4, 7, 13])
def test_meshes_get_finer_to_the_right(count: int) -> None:
    """Few enough ticks are labelled, the finest among them; every mesh has one."""
    h = [2.0**-k for k in range(3, 3 + count)]
    axes = Figure().subplots()
    mesh_axis(axes, h, labels=6)
    left, right = axes.get_xlim()
    assert left > h[0] > h[-1] > right
    assert list(axes.get_xticks()) == h
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names[-1] == f"1/{2 ** (2 + count)}"
    assert 2 <= sum(map(bool, names)) <= 6
    assert "finer to the right" in axes.get_xlabel()
