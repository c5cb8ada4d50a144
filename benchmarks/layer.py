"""Time the mesh-free convolution against `nn.Conv2d` and against a Fourier layer.

Forward and backward pass with all gradients, 32 → 32 channels, batch 4, float32. Every kernel is
an anisotropic Gaussian at a random angle with eigenvalues of A in [1.4e-4, 2.8e-4], which is a
standard deviation of about 5 cells of 256², and a drift of about 0.01. On each mesh the layers are
timed in turn, and what counts is the ratio to the neighbouring run of a 3 × 3 `nn.Conv2d`: a
machine that is busy with other things slows both. Errors are relative, in the Euclidean norm,
against the same layer in float64 with next to all frequencies; gradients include all weights.

Then the extra peak memory of one training step in fresh processes; the cost against the width of
the kernels, which shows where the convolution wins; the parts of the torch path beside the
operations that `layer_cost` counts; and, where `neuraloperator` is installed, its Fourier layer
with all modes.

    python -m benchmarks.layer [--quick] [--device cpu] [--threads 2] [--repeats 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import gradconv
from benchmarks.memory import peak
from gradconv.nn import MeshFreeConv2d, layer_cost
from gradconv.nn.engine.mixing import mix, mix_backward, to_modes
from gradconv.nn.engine.transform import analyse, analyse_output, synthesise, synthesise_input
from gradconv.nn.layer_timing import CONVOLUTION, LayerTiming, LayerWork, step
from gradconv.nn.timing import elapsed, machine

MESHES = (128, 256, 512)
MESHES_GPU = (256, 512, 1024, 2048)
WIDTH = 1.4e-4**0.5 * 3.0**0.5  # eigenvalues of A in [1.4e-4, 2.8e-4]
# What a ratio to `nn.Conv2d` should not exceed, by mesh.
BOUNDS = {
    "compiled": {128: 0.6, 256: 0.3, 512: 0.25},
    "torch": {128: 2.0, 256: 0.75, 512: 0.45},
}
ACCURACY = 1e-4
WIDTHS = (1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 16.0)  # in cells
CURVE_MESH = 256


@dataclass(frozen=True)
class Comparison:
    """A layer beside the convolution, with the width of its kernels and its error."""

    timing: LayerTiming
    convolution: float
    width: float
    error: float | None

    @property
    def within(self) -> bool:
        """Whether it keeps the bounds that are set for it."""
        bound = BOUNDS.get(self.timing.layer, {}).get(self.timing.n, math.inf)
        return self.timing.ratio.median <= bound and (self.error is None or self.error <= ACCURACY)


@dataclass(frozen=True)
class StepMemory:
    """How far one training step makes the peak of a fresh process grow, in bytes."""

    layer: str
    n: int
    peak: int


def fourier_layer(work: LayerWork, n: int) -> nn.Module | None:
    """The published Fourier layer with all modes, None where it is not installed."""
    try:
        from neuralop.layers.spectral_convolution import SpectralConv
    except ImportError:
        return None
    layer: nn.Module = SpectralConv(work.channels, work.channels, (n, n))
    return layer.to(work.device)


def compare(
    work: LayerWork, layers: dict[str, nn.Module], n: int, width: float, repeats: int
) -> list[Comparison]:
    """Time layers and the convolution in turn."""
    *timings, rival = work.compare(layers, n, repeats)
    found = []
    for timing in timings:
        layer = layers[timing.layer]
        checked = isinstance(layer, MeshFreeConv2d) and n <= CURVE_MESH
        error = work.error(layer, n) if checked else None
        found.append(Comparison(timing, rival.seconds, width, error))
    return found


def on_meshes(
    work: LayerWork, meshes: tuple[int, ...], repeats: int, fourier: bool
) -> list[Comparison]:
    found = []
    for n in meshes:
        found += compare(work, {p: work.mesh_free(p, WIDTH) for p in work.paths}, n, WIDTH, repeats)
        layer = fourier_layer(work, n) if fourier and n <= CURVE_MESH else None
        if layer is not None:
            found += compare(work, {"Fourier": layer}, n, WIDTH, min(repeats, 3))
    return found


@dataclass(frozen=True)
class Part:
    """One step of the torch path, forward and backward: seconds and operations of the model."""

    part: str
    n: int
    seconds: float
    operations: float


def breakdown(work: LayerWork, n: int, repeats: int) -> list[Part]:
    """Time analysis, mixing and synthesis by themselves, beside what `layer_cost` counts."""
    layer = work.mesh_free("torch", WIDTH)
    cost, plan = layer_cost(layer, (n, n), work.batch), layer.plan((n, n))
    x, g = (v.detach().flatten(0, 1) for v in work.fields(n))
    with torch.no_grad():
        p = layer.kernels()
        z, back = analyse(x, plan), analyse_output(g, plan)
        into, out = (to_modes(v, 1, work.batch) for v in (z, back))
        works = {
            "analysis": lambda: (analyse(x, plan), analyse_output(g, plan)),
            "mixing": lambda: (mix(into, p, plan), mix_backward(out, into, p, plan, (True, True))),
            "synthesis": lambda: (synthesise(z, plan), synthesise_input(back, plan)),
        }
        found = []
        for name, part in works.items():
            part()
            times = [elapsed(part, work.device).wall for _ in range(repeats)]
            found.append(Part(name, n, statistics.median(times), getattr(cost, name)))
    return found


def part_table(found: list[Part]) -> Table:
    table = Table(title="Parts of the torch path, forward and backward")
    for column in ("mesh", "part", "step [ms]", "GFLOP", "GFLOP/s"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for f in found:
        rate = f.operations / f.seconds / 1e9
        values = (f"{1e3 * f.seconds:.1f}", f"{f.operations / 1e9:.2f}", f"{rate:.0f}")
        table.add_row(f"{f.n}²", f.part, *values)
    return table


def over_widths(work: LayerWork, widths: tuple[float, ...], repeats: int) -> list[Comparison]:
    path, found = work.paths[0], []
    for cells in widths:
        width = cells / CURVE_MESH
        layers = {path: work.mesh_free(path, width)}
        found += compare(work, layers, CURVE_MESH, width, repeats)
    return found


def memories(work: LayerWork, meshes: tuple[int, ...], threads: int) -> list[StepMemory]:
    folders = [os.path.dirname(os.path.dirname(p)) for p in (__file__, gradconv.__file__ or "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    found = []
    for n in meshes:
        for name in (CONVOLUTION, *work.paths):
            command = [sys.executable, "-m", "benchmarks.layer", "--grow", name, str(n)]
            command += ["--threads", str(threads)]
            printed = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            ).stdout
            found.append(StepMemory(name, n, int(printed)))
    return found


def grow(work: LayerWork, name: str, n: int) -> int:
    """Growth of this process's peak over two steps; a step on a small mesh goes before."""
    layer = work.convolution() if name == CONVOLUTION else work.mesh_free(name, WIDTH)
    step(layer, *work.fields(16))
    x, g = work.fields(n)
    before = peak()
    for _ in range(2):
        step(layer, x, g)
    return peak() - before


def environment(device: str) -> dict[str, str]:
    return {
        "gradconv": gradconv.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "dtype": "float32",
        **{name: str(value) for name, value in machine(device).items()},
    }


def time_table(found: list[Comparison], title: str, batch: int) -> Table:
    table = Table(title=title)
    for column in (
        "mesh",
        "layer",
        "width [cells]",
        "modes",
        "step [ms]",
        "nn.Conv2d [ms]",
        "ratio",
        "processor time",
        "ns/pixel",
        "error",
    ):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for c in found:
        t = c.timing
        table.add_row(
            f"{t.n}²",
            t.layer,
            f"{c.width * t.n:.1f}",
            str(t.modes or t.n * (t.n // 2 + 1)),  # a Fourier layer takes all
            f"{1e3 * t.seconds:.1f}",
            f"{1e3 * c.convolution:.1f}",
            str(t.ratio),
            f"{t.processor:.2f}",
            f"{1e9 * t.seconds / (batch * t.n**2):.0f}",
            "" if c.error is None else f"{c.error:.1e}",
            style=None if c.within else "bold",
        )
    return table


def memory_table(found: list[StepMemory]) -> Table:
    table = Table(title="Memory of a training step: growth of a fresh process's peak")
    for column in ("mesh", "layer", "peak [MiB]", "of the convolution's"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    of = {m.n: m.peak for m in found if m.layer == CONVOLUTION}
    for m in found:
        share = m.peak / of[m.n]
        table.add_row(
            f"{m.n}²",
            m.layer,
            f"{m.peak / 2**20:.1f}",
            f"{share:.2f}",
            style=None if share <= 1.0 else "bold",
        )
    return table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="two meshes, three widths")
    parser.add_argument(
        "--only", choices=("meshes", "parts", "widths", "memory"), help="one of the tables"
    )
    parser.add_argument("--device", default="cpu", help="cpu or a CUDA device; default: cpu")
    parser.add_argument("--repeats", type=int, help="paired measurements, default 15, quick 5")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--no-fourier", action="store_false", dest="fourier")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    parser.add_argument("--grow", nargs=2, metavar=("LAYER", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    work = LayerWork(device=arguments.device)
    torch.set_num_threads(arguments.threads)
    if arguments.grow:
        print(grow(work, arguments.grow[0], int(arguments.grow[1])))
        return 0
    quick, only = arguments.quick, arguments.only
    repeats = arguments.repeats or (5 if quick else 15)
    meshes = MESHES if work.device == "cpu" else MESHES_GPU
    meshes = meshes[:2] if quick else meshes
    console = Console(width=None if os.isatty(1) else 130)
    settings = environment(work.device)
    console.print(", ".join(f"{name} {value}" for name, value in settings.items()))
    results: dict[str, object] = {"environment": settings, "bounds": BOUNDS}
    if only in (None, "meshes"):
        timed = on_meshes(work, meshes, repeats, arguments.fourier)
        console.print(time_table(timed, "Forward and backward pass with all gradients", work.batch))
        results["meshes"] = [asdict(c) for c in timed]
    if only in (None, "parts"):
        parts = [part for n in meshes for part in breakdown(work, n, repeats)]
        console.print(part_table(parts))
        results["parts"] = [asdict(part) for part in parts]
    if only in (None, "widths"):
        curve = over_widths(work, WIDTHS[::3] if quick else WIDTHS, min(repeats, 7))
        console.print(time_table(curve, "Cost against the width of the kernels", work.batch))
        results["widths"] = [asdict(c) for c in curve]
    if only == "memory" or (only is None and work.device == "cpu"):
        used = memories(work, meshes, arguments.threads)
        console.print(memory_table(used))
        results["memory"] = [asdict(m) for m in used]
    console.print("Ratios: median (least–most) of paired repeats. Bold: outside the bounds.")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
