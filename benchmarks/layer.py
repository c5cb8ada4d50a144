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
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import gradconv
from benchmarks.memory import peak
from gradconv.nn import MeshFreeConv2d, layer_cost
from gradconv.nn.engine.compiled import available
from gradconv.nn.engine.mixing import mix, mix_backward, to_modes
from gradconv.nn.engine.transform import analyse, analyse_output, synthesise, synthesise_input

CHANNELS, BATCH = 32, 4
MESHES = (128, 256, 512)
MESHES_GPU = (256, 512, 1024, 2048)
DEVICE = torch.device("cpu")  # set by --device
EIGENVALUES = (1.4e-4, 2.8e-4)
CELLS = 5.2  # standard deviation of these kernels, in cells of 256², in the middle of the range
DRIFT = 0.01
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
    """A layer beside the convolution: seconds, and medians of paired ratios."""

    layer: str
    n: int
    cells: float
    modes: int
    seconds: float
    convolution: float
    ratio: float
    least: float
    most: float
    processor: float
    error: float | None

    @property
    def within(self) -> bool:
        """Whether it keeps the bounds that are set for it."""
        fast = self.ratio <= BOUNDS.get(self.layer, {}).get(self.n, math.inf)
        return fast and (self.error is None or self.error <= ACCURACY)


@dataclass(frozen=True)
class StepMemory:
    """How far one training step makes the peak of a fresh process grow, in bytes."""

    layer: str
    n: int
    peak: int


def kernels(cells: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Amplitude, diffusion matrices and drift of all channel pairs."""
    generator = torch.Generator().manual_seed(seed)
    pairs = (CHANNELS, CHANNELS, 1)
    low, high = (v * (cells / CELLS) ** 2 for v in EIGENVALUES)
    values = low + (high - low) * torch.rand(*pairs, 2, generator=generator)
    angle = math.pi * torch.rand(pairs, generator=generator)
    c, s = angle.cos(), angle.sin()
    a11 = values[..., 0] * c**2 + values[..., 1] * s**2
    a22 = values[..., 0] * s**2 + values[..., 1] * c**2
    a12 = (values[..., 0] - values[..., 1]) * c * s
    a = torch.stack([a11, a12, a12, a22], -1).reshape(*pairs, 2, 2)
    amplitude = torch.randn(pairs, generator=generator) / math.sqrt(CHANNELS)
    return amplitude, a, DRIFT * torch.randn(*pairs, 2, generator=generator)


def mesh_free(path: str, cells: float) -> MeshFreeConv2d:
    layer = MeshFreeConv2d(CHANNELS, CHANNELS, path=path)
    amplitude, diffusion, drift = kernels(cells)
    layer.set_physical(amplitude=amplitude, diffusion=diffusion, drift=drift)
    return layer.to(DEVICE)


def convolution() -> nn.Module:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(DEVICE)


def fourier_layer(n: int) -> nn.Module | None:
    """The published Fourier layer with all modes, None where it is not installed."""
    try:
        from neuralop.layers.spectral_convolution import SpectralConv
    except ImportError:
        return None
    layer: nn.Module = SpectralConv(CHANNELS, CHANNELS, (n, n))
    return layer.to(DEVICE)


def fields(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    x, g = (torch.randn(BATCH, CHANNELS, n, n, generator=generator) for _ in range(2))
    return x.to(DEVICE).requires_grad_(), g.to(DEVICE)


def step(layer: nn.Module, x: Tensor, g: Tensor) -> Tensor:
    x.grad = None
    layer.zero_grad()
    y: Tensor = layer(x)
    y.backward(g)
    return y


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall clock and processor time of all threads."""
    synchronise()
    start, busy = time.perf_counter(), time.process_time()
    work()
    synchronise()
    return time.perf_counter() - start, time.process_time() - busy


def error(layer: MeshFreeConv2d, n: int, cells: float) -> float:
    """Largest relative error of the output and of each gradient, on one field of the batch."""
    x, g = (v.detach()[:1] for v in fields(n))
    exact = MeshFreeConv2d(CHANNELS, CHANNELS, path="torch", tolerance=1e-10, dtype=torch.float64)
    exact = exact.to(DEVICE)
    exact.load_state_dict(layer.state_dict())
    results = []
    for module, dtype in ((layer, torch.float32), (exact, torch.float64)):
        leaf = x.to(dtype, copy=True).requires_grad_()
        y = step(module, leaf, g.to(dtype))
        # Linear in two of these the weights are not: each is compared by itself.
        grads = [p.grad for p in module.parameters() if p.grad is not None and p.grad.numel()]
        results.append([v.detach().double() for v in (y, leaf.grad, *grads) if v is not None])
    worst = 0.0
    for found, expected in zip(*results, strict=True):
        scale = float(expected.norm())
        worst = max(worst, float((found - expected).norm()) / scale if scale else 0.0)
    return worst


def compare(name: str, layer: nn.Module, n: int, cells: float, repeats: int) -> Comparison:
    """Time a layer and the convolution in turn."""
    x, g = fields(n)
    rival = convolution()
    for module in (layer, rival) * 2:  # compile, and warm caches and the allocator
        step(module, x, g)
    own, its, busy = [], [], []
    for _ in range(repeats):
        wall, processor = seconds(lambda: step(layer, x, g))
        rival_wall, rival_processor = seconds(lambda: step(rival, x, g))
        own.append(wall)
        its.append(rival_wall)
        busy.append(processor / rival_processor)
    ratios = [a / b for a, b in zip(own, its, strict=True)]
    mesh_free_layer = isinstance(layer, MeshFreeConv2d)
    return Comparison(
        name,
        n,
        cells,
        layer.plan((n, n)).modes if mesh_free_layer else n * (n // 2 + 1),
        statistics.median(own),
        statistics.median(its),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(busy),
        error(layer, n, cells) if mesh_free_layer and n <= CURVE_MESH else None,
    )


def paths() -> tuple[str, ...]:
    return ("compiled", "torch") if available()[0] and DEVICE.type == "cpu" else ("torch",)


def on_meshes(meshes: tuple[int, ...], repeats: int, fourier: bool) -> list[Comparison]:
    found = []
    for n in meshes:
        for path in paths():
            found.append(compare(path, mesh_free(path, CELLS), n, CELLS, repeats))
        layer = fourier_layer(n) if fourier and n <= CURVE_MESH else None
        if layer is not None:
            found.append(compare("Fourier", layer, n, CELLS, min(repeats, 3)))
    return found


@dataclass(frozen=True)
class Part:
    """One step of the torch path, forward and backward: seconds and operations of the model."""

    part: str
    n: int
    seconds: float
    operations: float


def breakdown(n: int, repeats: int) -> list[Part]:
    """Time analysis, mixing and synthesis by themselves, beside what `layer_cost` counts."""
    layer = mesh_free("torch", CELLS)
    cost, plan = layer_cost(layer, (n, n), BATCH), layer.plan((n, n))
    x, g = (v.detach().flatten(0, 1) for v in fields(n))
    with torch.no_grad():
        p = layer.kernels()
        z, back = analyse(x, plan), analyse_output(g, plan)
        into, out = (to_modes(v, 1, BATCH) for v in (z, back))
        works = {
            "analysis": lambda: (analyse(x, plan), analyse_output(g, plan)),
            "mixing": lambda: (mix(into, p, plan), mix_backward(out, into, p, plan, (True, True))),
            "synthesis": lambda: (synthesise(z, plan), synthesise_input(back, plan)),
        }
        found = []
        for name, work in works.items():
            work()
            times = [seconds(work)[0] for _ in range(repeats)]
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


def over_widths(widths: tuple[float, ...], repeats: int) -> list[Comparison]:
    return [compare(paths()[0], mesh_free(paths()[0], w), CURVE_MESH, w, repeats) for w in widths]


def memories(meshes: tuple[int, ...], threads: int) -> list[StepMemory]:
    folders = [os.path.dirname(os.path.dirname(p)) for p in (__file__, gradconv.__file__ or "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    found = []
    for n in meshes:
        for name in ("convolution", *paths()):
            command = [sys.executable, "-m", "benchmarks.layer", "--grow", name, str(n)]
            command += ["--threads", str(threads)]
            printed = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            ).stdout
            found.append(StepMemory(name, n, int(printed)))
    return found


def grow(name: str, n: int) -> int:
    """Growth of this process's peak over two steps; a step on a small mesh goes before."""
    layer = convolution() if name == "convolution" else mesh_free(name, CELLS)
    step(layer, *fields(16))
    x, g = fields(n)
    before = peak()
    for _ in range(2):
        step(layer, x, g)
    return peak() - before


def environment(threads: int) -> dict[str, str]:
    gpu = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "none"
    return {
        "gpu": gpu,
        "gradconv": gradconv.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "cores": str(os.cpu_count()),
        "machine": f"{platform.system()} {platform.machine()}",
        "dtype": "float32",
        "threads": str(threads),
    }


def time_table(found: list[Comparison], title: str) -> Table:
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
        table.add_row(
            f"{c.n}²",
            c.layer,
            f"{c.cells * c.n / CURVE_MESH:.1f}",
            str(c.modes),
            f"{1e3 * c.seconds:.1f}",
            f"{1e3 * c.convolution:.1f}",
            f"{c.ratio:.2f} ({c.least:.2f}–{c.most:.2f})",
            f"{c.processor:.2f}",
            f"{1e9 * c.seconds / (BATCH * c.n**2):.0f}",
            "" if c.error is None else f"{c.error:.1e}",
            style=None if c.within else "bold",
        )
    return table


def memory_table(found: list[StepMemory]) -> Table:
    table = Table(title="Memory of a training step: growth of a fresh process's peak")
    for column in ("mesh", "layer", "peak [MiB]", "of the convolution's"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    of = {m.n: m.peak for m in found if m.layer == "convolution"}
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
    global DEVICE
    DEVICE = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    if arguments.grow:
        print(grow(arguments.grow[0], int(arguments.grow[1])))
        return 0
    quick, only = arguments.quick, arguments.only
    repeats = arguments.repeats or (5 if quick else 15)
    meshes = MESHES if DEVICE.type == "cpu" else MESHES_GPU
    meshes = meshes[:2] if quick else meshes
    console = Console(width=None if os.isatty(1) else 130)
    settings = environment(arguments.threads)
    console.print(", ".join(f"{name} {value}" for name, value in settings.items()))
    results: dict[str, object] = {"environment": settings, "bounds": BOUNDS}
    if only in (None, "meshes"):
        timed = on_meshes(meshes, repeats, arguments.fourier)
        console.print(time_table(timed, "Forward and backward pass with all gradients"))
        results["meshes"] = [asdict(c) for c in timed]
    if only in (None, "parts"):
        parts = [part for n in meshes for part in breakdown(n, repeats)]
        console.print(part_table(parts))
        results["parts"] = [asdict(part) for part in parts]
    if only in (None, "widths"):
        curve = over_widths(WIDTHS[::3] if quick else WIDTHS, min(repeats, 7))
        console.print(time_table(curve, "Cost against the width of the kernels"))
        results["widths"] = [asdict(c) for c in curve]
    if only == "memory" or (only is None and DEVICE.type == "cpu"):
        used = memories(meshes, arguments.threads)
        console.print(memory_table(used))
        results["memory"] = [asdict(m) for m in used]
    console.print("Ratios: median (least–most) of paired repeats. Bold: outside the bounds.")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
