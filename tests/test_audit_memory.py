"""What a gradient takes is counted, foreseen on finer meshes, and kept within `memory`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from audit_modules import ResNet, mesh_free, stencil
from torch import nn

from gradconv import MeshHierarchy
from gradconv.audit.making import build, complete
from gradconv.audit.memory import Allocations, finest_step_bytes, step_bytes
from gradconv.audit.subject import Subject
from gradconv.multilevel.choices import CHOICES
from gradconv.problem import Problem
from gradconv.samplers import ProblemSampler

HIERARCHY = MeshHierarchy(2, (8, 16, 32, 64))
KIB = 2**10
DOUBLE = 8


def subject_of(module: nn.Module) -> tuple[Subject, ProblemSampler]:
    choices = {"loss": "mse", "output": None, "mode": None, "seed": 0}
    subject = build(module, HIERARCHY, **choices, device="cpu", dtype="float64")
    data = ProblemSampler(Problem("stencil", dim=2, **CHOICES), HIERARCHY, 0)
    complete(subject, data.path(0)[0][0])
    return subject, data


def wide() -> nn.Module:
    return nn.Sequential(stencil(1, 16), nn.Tanh(), stencil(16, 16), nn.Tanh(), stencil(16, 1))


def test_live_tensors_are_counted_once_and_until_they_die() -> None:
    x = torch.zeros(KIB, dtype=torch.float64)
    with Allocations([x]) as counted:
        y = x + 1
        view = y[::2].reshape(2, -1)[0]  # no storage of its own
        z = torch.from_numpy(np.ones(KIB)) + view.sum()  # the array is seen as an argument
        del y, view
        z = z * 2  # its old value dies after the new one is made
    # y, or then the array, its sum and the product; scalars beside
    assert 3 * KIB * DOUBLE <= counted.peak < 3 * KIB * DOUBLE + 100
    with Allocations([]) as counted:  # negative control: x counts where it was not named
        y = x + 1
        del y
    assert counted.peak == 2 * KIB * DOUBLE


@pytest.mark.parametrize("transposed", [False, True])
def test_columns_of_convolutions_count(transposed: bool) -> None:
    """A window of 3×3 unfolds the side with fewer cells: 9 values a cell and channel."""
    x = torch.zeros(1, 4, 8, 8, dtype=torch.float64)
    if transposed:
        weight = torch.zeros(4, 2, 3, 3, dtype=torch.float64)
        with Allocations([x, weight]) as counted:
            made = functional.conv_transpose2d(x, weight, stride=2)
        columns = 2 * 9 * x[0, 0].numel()
    else:
        weight = torch.zeros(2, 4, 3, 3, dtype=torch.float64)
        with Allocations([x, weight]) as counted:
            made = functional.conv2d(x, weight)
        columns = 4 * 9 * made[0, 0].numel()
    assert counted.peak == DOUBLE * (columns + made.numel())
    point = torch.zeros(2, 4, 1, 1, dtype=torch.float64)  # negative control: nothing to unfold
    with Allocations([x, point]) as counted:
        made = functional.conv2d(x, point)
    assert counted.peak == DOUBLE * made.numel()


@pytest.mark.parametrize("make", [wide, lambda: ResNet(mesh_free, 8)])
def test_a_step_is_foreseen_from_coarser_levels(make: object) -> None:
    subject, data = subject_of(make())  # type: ignore[operator]
    counted = [step_bytes(subject, level, *data.path(0)[level]) for level in range(4)]
    # counted where it fits; the first step also fills what layers keep
    assert finest_step_bytes(subject, data, 1e12) == pytest.approx(counted[3], rel=0.02)
    seen = finest_step_bytes(subject, data, 0.0)  # from the two coarsest
    assert seen == pytest.approx(counted[1] * max(4.0, counted[1] / counted[0]) ** 2, rel=0.02)
    assert seen >= counted[3]
    assert finest_step_bytes(subject, data, 4.1 * counted[1]) >= 0.98 * counted[3]  # from three


def test_a_step_holds_the_fields_that_the_backward_pass_needs() -> None:
    subject, data = subject_of(wide())
    fields = 4 * 16 * 64**2 * DOUBLE  # two hidden fields, as they are and padded
    columns = 9 * 16 * 64**2 * DOUBLE
    assert fields + columns < step_bytes(subject, 3, *data.path(0)[3]) < 2 * (fields + columns)


SCRIPT = """
import json, re, resource, sys
sys.path.insert(0, sys.argv[1])
import torch
from audit_modules import ResNet, mesh_free, stencil
from torch import nn
from gradconv import InputError
from gradconv.audit import audit

torch.set_num_threads(1)
dtype, explain, kind = sys.argv[2], sys.argv[3] == "explained", sys.argv[4]
saved = [0]

def make(width):
    torch.manual_seed(0)
    if kind == "mesh-free":
        return ResNet(lambda i, o: mesh_free(i, o, path="auto"), width)
    norms = nn.GroupNorm(1, width), nn.GELU(), stencil(width, width), nn.BatchNorm2d(width)
    return nn.Sequential(stencil(1, width), *norms, nn.GELU(), stencil(width, 1))

def resident(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

choices = dict(noise="pixel:0.5", dtype=dtype, explain=explain, replicates=3)
audit(make(2), **choices, hierarchy=(8, 16, 32, 64))  # libraries load what they need
net, hierarchy = make(24), (16, 32, 64, 128, 256)
try:
    audit(net, **choices, hierarchy=hierarchy, memory=0.02)  # enough for a sample
except InputError as error:
    needed = float(re.search(r"about ([\\d.e-]+) GiB", str(error))[1])
bound, start = 1.02 * needed, resident()
def count(tensor):
    saved[0] += tensor.untyped_storage().nbytes()
    return tensor
x = torch.randn(1, 1, 256, 256, dtype=getattr(torch, dtype))
with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
    made = net.to(x.dtype)(x)
del made, x
before = most()
audit(net, **choices, hierarchy=hierarchy, memory=bound)
print(json.dumps({"bound": bound, "took": (most() - start) / 2**30, "saved": saved[0] / 2**30,
                  "reached": most() > before}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from /proc")
@pytest.mark.parametrize("kind", ["standard", "mesh-free"])
@pytest.mark.parametrize("explain", ["explained", "plain"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_audit_stays_within_its_memory(dtype: str, explain: str, kind: str) -> None:
    """Resident memory of a process of its own; what autograd saves alone is no bound."""
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), dtype, explain, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    seen = json.loads(done.stdout)
    assert seen["reached"]
    assert 0.2 * seen["bound"] < seen["took"] < seen["bound"], seen
    if dtype == "float64" and kind == "standard":  # negative control: twice what is saved
        assert seen["took"] > 2 * seen["saved"], seen
