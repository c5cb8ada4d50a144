"""Time the mesh-free convolution of many samples on small meshes, as multilevel training has them.

Forward and backward pass with all gradients, 64 → 64 channels and the first and last layers of such
networks, float32, kernels as a new layer has them. The compiled path that multiplies all samples
with the symbols of a mode at once is timed in turn with the one that goes row by row, and with a
3 × 3 `nn.Conv2d` with periodic boundaries; what counts are the medians of the ratios of neighbours
in time, in brackets their quartiles.

    python -m benchmarks.small_meshes [--quick] [--threads 1] [--repeats 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.run import environment
from gradconv.nn import MeshFreeConv2d, UnresolvedKernelWarning
from gradconv.nn.engine import compiled
from gradconv.nn.timing import in_turn

# cells an axis, samples, channels in and out
CASES = (
    (8, 192, 64, 64), (16, 96, 64, 64), (32, 48, 64, 64),
    (4, 64, 1, 64), (8, 48, 1, 64), (8, 192, 1, 64), (8, 192, 64, 1),
)  # fmt: skip


def case(n: int, batch: int, ins: int, outs: int, repeats: int) -> dict[str, object]:
    """Ratios of the batched kernels to the two others on one mesh."""
    generator = torch.Generator().manual_seed(n)
    x, g = (torch.randn((batch, c, n, n), generator=generator) for c in (ins, outs))
    x.requires_grad_()
    layer = MeshFreeConv2d(ins, outs, path="compiled")
    convolution = nn.Conv2d(ins, outs, 3, padding=1, padding_mode="circular")

    def step(module: nn.Module) -> torch.Tensor:
        x.grad = None
        module.zero_grad()
        y: torch.Tensor = module(x)
        y.backward(g)
        return y

    def by_rows() -> torch.Tensor:
        with patch.object(compiled, "batches", lambda *_: False):
            return step(layer)

    if not compiled.batches(x, (outs, ins, 1, 1), 1, layer.plan((n, n))):
        raise RuntimeError(f"{batch} samples of {n}² are not batched")
    reference = by_rows().detach()
    error = float((step(layer).detach() - reference).abs().max() / reference.abs().max())
    if not error < 1e-4:
        raise RuntimeError(f"the two ways differ by {error:.1e} on {n}²")
    works = [lambda: step(layer), by_rows, lambda: step(convolution)]
    taken = in_turn(works, repeats, warm=2)
    times = np.array([[one.wall for one in column] for column in taken]).T
    return {
        "n": n,
        "samples": batch,
        "channels": [ins, outs],
        "seconds": float(np.median(times[:, 0])),
        "rows": [float(q) for q in np.quantile(times[:, 0] / times[:, 1], (0.25, 0.5, 0.75))],
        "convolution": [
            float(q) for q in np.quantile(times[:, 0] / times[:, 2], (0.25, 0.5, 0.75))
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", UnresolvedKernelWarning)  # as on coarse levels
    cases = CASES[:1] if arguments.quick else CASES
    found = [case(*one, 2 if arguments.quick else arguments.repeats) for one in cases]
    table = Table(title="Many samples on a small mesh: batched kernels")
    heads = ("mesh", "samples", "channels", "milliseconds", "over row by row", "over nn.Conv2d")
    for name in heads:
        table.add_column(name, justify="right")
    for one in found:
        ratios = ("{1:.2f} ({0:.2f}–{2:.2f})".format(*one[key]) for key in ("rows", "convolution"))  # type: ignore[misc]
        table.add_row(
            f"{one['n']}²", str(one["samples"]), "{} → {}".format(*one["channels"]),  # type: ignore[misc]
            f"{1e3 * one['seconds']:.1f}", *ratios,  # type: ignore[operator]
        )  # fmt: skip
    Console().print(table)
    if arguments.json:
        document = {
            "environment": {
                **environment(),
                "dtype": "float32",
                "threads": str(arguments.threads),
            },
            "results": found,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
