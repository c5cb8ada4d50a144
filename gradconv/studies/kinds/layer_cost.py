"""Time of a mesh-free layer over that of a 3 × 3 convolution: by mesh, and by width of kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradconv.backend import Backend
from gradconv.errors import InputError, check_whole, shortened
from gradconv.figures import COLOURS, LAW, MARKERS, Style
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.studies.kinds.choices import (
    complete,
    positive_number,
    positive_numbers,
    whole_numbers,
)
from gradconv.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradconv.nn.layer_timing import LayerTiming

CHOICES = (
    "device",
    "threads",
    "channels",
    "batch",
    "repeats",
    "meshes",
    "width",
    "mesh",
    "widths",
)
LARGEST_MESH = 2**13
CHECKED = 256  # cells an axis up to which the error is measured: float64 with all modes is slow
CONVOLUTION = "nn.Conv2d"
NAMES = {"compiled": "mesh-free, compiled", "torch": "mesh-free, pure torch"}
LOOKS = dict(zip((*NAMES, CONVOLUTION), zip(COLOURS, MARKERS, strict=True), strict=False))


@KINDS.register("layer_cost")
class LayerCostStudy(StudyKind):
    """Two parts: ``meshes``, with kernels fixed in the box, and ``widths``, on one mesh.

    ``meshes`` has a list for each kind of device, of which that of ``device`` is taken.
    """

    def parts(self, choices: Record) -> dict[str, Record]:
        complete(choices, CHOICES)
        device = choices["device"]
        Backend(device, "float32")
        kind = device.partition(":")[0]
        if not isinstance(choices["meshes"], dict) or kind not in choices["meshes"]:
            raise InputError(
                f"`meshes` must have a list for device {kind}; got {shortened(choices['meshes'])}"
            )
        for name, least, largest in (
            ("threads", 1, 1024),
            ("channels", 1, 4096),
            ("batch", 1, 4096),
            ("repeats", 2, 10_000),
            ("mesh", 4, LARGEST_MESH),
        ):
            check_whole(name, choices[name], least, largest)
        shared = {c: choices[c] for c in ("device", "threads", "channels", "batch", "repeats")}
        mesh = choices["mesh"]
        cells = positive_numbers("widths", choices["widths"])
        meshes = whole_numbers("meshes", choices["meshes"][kind], 4, LARGEST_MESH)
        width = positive_number("width", choices["width"])
        return {
            "meshes": {**shared, "over": "meshes", "meshes": meshes, "width": width},
            "widths": {**shared, "over": "widths", "mesh": mesh, "widths": cells},
        }

    def origin(self, part: Record) -> Origin:
        return Origin(0, part["device"], "float32", ("numba",))

    def measure(self, part: Record, work: Workplace) -> Record:
        from gradconv.nn.layer_timing import LayerWork
        from gradconv.nn.timing import machine, torch_threads

        layers = LayerWork(part["channels"], part["batch"], part["device"])
        over_meshes = part["over"] == "meshes"
        cases = (
            [(n, part["width"]) for n in part["meshes"]]
            if over_meshes
            else [(part["mesh"], cells / part["mesh"]) for cells in part["widths"]]
        )
        cost = [float(n**2) for n, _ in cases]
        found: list[Record] = []
        with torch_threads(part["threads"]):
            here = machine(part["device"])
            for place, (n, width) in enumerate(cases):
                work.progress(sum(cost[:place]), sum(cost))
                made = {path: layers.mesh_free(path, width) for path in layers.paths}
                for timing in layers.compare(made, n, part["repeats"]):
                    checked = over_meshes and timing.layer in made and n <= CHECKED
                    error = layers.error(made[timing.layer], n) if checked else None
                    found.append(_record(timing, width, part["batch"], error))
        return {"machine": here, "batch": part["batch"], "timings": found}

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        from matplotlib.figure import Figure

        meshes, widths = results["meshes"], results["widths"]
        with style.apply():
            figure = Figure(figsize=(style.full, 0.46 * style.full), layout="constrained")
            left, right = figure.subplots(1, 2)
            _draw_meshes(left, meshes["timings"])
            _draw_widths(right, widths["timings"])
        n = _by_layer(widths["timings"])[CONVOLUTION][0]["n"]
        return [
            StudyFigure(
                name="figure",
                caption=(
                    "Forward and backward pass with all gradients, float32, batch "
                    f"{meshes['batch']}, on {_machine(meshes['machine'])}. Left: time a pixel "
                    "against the mesh, kernels of one width in the box; points are medians, bars "
                    "quartiles of steps timed in turn; dotted: n⁻², a time that does not depend "
                    "on the mesh. Right: time over that of the convolution beside it against the "
                    f"width of the kernels on {n}²; bands are quartiles of the paired ratios."
                ),
                alternative=" ".join(self.summary(results)),
                drawing=figure,
            )
        ]

    def tables(self, results: Results) -> list[Table]:
        where = _machine(results["meshes"]["machine"])
        return [
            Table(
                name="meshes",
                caption=(
                    f"Kernels of one width in the box, on every mesh ({where}). Times: medians "
                    "with quartiles; ratios: medians of pairs with quartiles, least and most in "
                    "brackets. Error: largest relative one of the output and each gradient."
                ),
                header=(*HEADER, "error"),
                rows=tuple(
                    (*_row(r), "" if r["error"] is None else f"{r['error']:.1e}")
                    for r in results["meshes"]["timings"]
                ),
            ),
            Table(
                name="widths",
                caption="The same against the width of the kernels on one mesh.",
                header=HEADER,
                rows=tuple(_row(r) for r in results["widths"]["timings"]),
            ),
        ]

    def summary(self, results: Results) -> list[str]:
        found = []
        for layer, records in _mesh_free(results["meshes"]["timings"]).items():
            first, last = records[0], records[-1]
            found.append(
                f"{NAMES[layer]}: {_ratio(first)} times the time of {CONVOLUTION} on "
                f"{first['n']}², {_ratio(last)} on {last['n']}²; {_wins(records, 'n', '²')}."
            )
        for layer, records in _mesh_free(results["widths"]["timings"]).items():
            first, last = records[0], records[-1]
            found.append(
                f"{NAMES[layer]}, on {first['n']}²: {_ratio(first)} times it with kernels of width "
                f"{first['cells']:.3g} h, {_ratio(last)} with {last['cells']:.3g} h; "
                f"{_wins(records, 'cells', ' h')}."
            )
        return found


def _record(timing: LayerTiming, width: float, batch: int, error: float | None) -> Record:
    ratio = None if timing.layer == CONVOLUTION else vars(timing.ratio)
    return {
        "layer": timing.layer,
        "n": timing.n,
        "width": width,
        "cells": width * timing.n,
        "modes": timing.modes,
        "operations": timing.operations,
        "seconds": timing.seconds,
        "seconds_quartiles": list(timing.quartiles),
        "nanoseconds_a_pixel": 1e9 * timing.seconds / (batch * timing.n**2),
        "ratio": ratio,
        "processor_ratio": timing.processor,
        "error": error,
    }


def _by_layer(records: list[Record]) -> dict[str, list[Record]]:
    return {layer: own for layer in LOOKS if (own := [r for r in records if r["layer"] == layer])}


def _mesh_free(records: list[Record]) -> dict[str, list[Record]]:
    return {k: v for k, v in _by_layer(records).items() if k != CONVOLUTION}


def _machine(machine: Record) -> str:
    if machine["gpu"] != "none":
        return str(machine["gpu"])
    return f"{machine['threads']} threads of {machine['cores']} cores, {machine['processor']}"


def _ratio(record: Record) -> str:
    ratio = record["ratio"]
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _wins(records: list[Record], name: str, unit: str) -> str:
    """From where on the quartiles lie below 1, in words."""
    start = None
    for record in reversed(records):
        if record["ratio"]["high"] >= 1.0:
            break
        start = record
    if start is None:
        return f"not faster on {records[-1][name]:.4g}{unit}"
    return f"faster from {start[name]:.4g}{unit} on"


HEADER = (
    "mesh",
    "layer",
    "width [cells]",
    "modes",
    "GFLOP",
    "time [ms]",
    "ns a pixel",
    f"over {CONVOLUTION}",
)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100.0 else f"{value:.0f}"


def _row(record: Record) -> tuple[str, ...]:
    ratio, own = record["ratio"], record["layer"] == CONVOLUTION
    low, high = record["seconds_quartiles"]
    return (
        f"{record['n']}²",
        str(NAMES.get(record["layer"], record["layer"])),
        "" if own else f"{record['cells']:.2g}",
        "" if record["modes"] is None else str(record["modes"]),
        f"{record['operations'] / 1e9:.3g}",
        "{} [{}, {}]".format(*(_short(1e3 * v) for v in (record["seconds"], low, high))),
        _short(record["nanoseconds_a_pixel"]),
        "1" if own else f"{_ratio(record)} ({ratio['least']:.2f}–{ratio['most']:.2f})",
    )


def _draw_meshes(axis: Axes, records: list[Record]) -> None:
    for layer, own in _by_layer(records).items():
        colour, marker = LOOKS[layer]
        values = [r["nanoseconds_a_pixel"] for r in own]
        pixel = [v / r["seconds"] for v, r in zip(values, own, strict=True)]
        bars: Any = [
            [
                abs(p * r["seconds_quartiles"][end] - v)
                for v, p, r in zip(values, pixel, own, strict=True)
            ]
            for end in (0, 1)
        ]
        axis.errorbar(
            [r["n"] for r in own],
            values,
            yerr=bars,
            color=colour,
            marker=marker,
            capsize=2.0,
            label=NAMES.get(layer, f"3 × 3 {layer}"),
        )
    n = sorted({r["n"] for r in records})
    top = max(r["nanoseconds_a_pixel"] for r in records)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_ylim(top=4.0 * top)
    last = min(n[-1], 4 * n[0])
    axis.plot(
        [n[0], last],
        [2.0 * top, 2.0 * top * (n[0] / last) ** 2],
        **LAW,
        label=r"fixed time, $\propto n^{-2}$",
    )
    axis.set_xticks(n, [f"{v}²" for v in n])
    axis.set_xlabel("mesh, cells")
    axis.set_ylabel("time of a step [ns a pixel]")
    axis.legend(frameon=False, fontsize="x-small")


def _draw_widths(axis: Axes, records: list[Record]) -> None:
    for layer, own in _mesh_free(records).items():
        colour, marker = LOOKS[layer]
        cells = [r["cells"] for r in own]
        low, high = ([r["ratio"][end] for r in own] for end in ("low", "high"))
        axis.fill_between(cells, low, high, color=colour, alpha=0.2, linewidth=0)
        medians = [r["ratio"]["median"] for r in own]
        axis.plot(cells, medians, color=colour, marker=marker, label=NAMES[layer])
    axis.axhline(1.0, color=LOOKS[CONVOLUTION][0], linestyle="--", label=f"3 × 3 {CONVOLUTION}")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(cells, [f"{c:.3g}" for c in cells])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel(f"standard deviation of the kernels [cells of {records[0]['n']}²]")
    axis.set_ylabel(f"time over that of {CONVOLUTION}")
    axis.legend(frameon=False, fontsize="x-small")
