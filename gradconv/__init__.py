"""gradconv asks whether the gradient of a convolution survives mesh refinement.

The main job in four lines:

>>> from gradconv import MeshHierarchy, Problem, sweep
>>> problem = Problem(
...     "mfc", signal="band-limited:3", noise="pixel:0.5", restriction="injection", dim=1
... )
>>> result = sweep(problem, MeshHierarchy.powers_of_two(1, 5, 10), replicates=8)
>>> print(f"{result.rate('mean_gap').order:.2f}")
1.00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradconv.loading import lazy

if TYPE_CHECKING:
    from gradconv.agreement import Agreement, compare
    from gradconv.errors import InputError, LawError, StorageError
    from gradconv.fields import NOISES, SIGNALS, TARGETS, Multiplier
    from gradconv.kernels import KERNELS, Kernel, KernelOptions
    from gradconv.laws import Law, derive
    from gradconv.mesh import Mesh, MeshHierarchy
    from gradconv.problem import Problem
    from gradconv.rates import Rate, fit_rate
    from gradconv.restriction import RESTRICTIONS
    from gradconv.sweeps import Sweep, sweep

__version__ = "0.1.0"

# Names load on first use, so that `import gradconv` and the command line start at once.
_HOMES = {
    "Agreement": "agreement",
    "InputError": "errors",
    "StorageError": "errors",
    "KERNELS": "kernels",
    "Kernel": "kernels",
    "KernelOptions": "kernels",
    "Law": "laws",
    "LawError": "errors",
    "Mesh": "mesh",
    "MeshHierarchy": "mesh",
    "Multiplier": "fields",
    "NOISES": "fields",
    "Problem": "problem",
    "RESTRICTIONS": "restriction",
    "Rate": "rates",
    "SIGNALS": "fields",
    "Sweep": "sweeps",
    "TARGETS": "fields",
    "compare": "agreement",
    "derive": "laws",
    "fit_rate": "rates",
    "sweep": "sweeps",
}

__all__ = [
    "KERNELS",
    "NOISES",
    "RESTRICTIONS",
    "SIGNALS",
    "TARGETS",
    "Agreement",
    "InputError",
    "Kernel",
    "KernelOptions",
    "Law",
    "LawError",
    "Mesh",
    "MeshHierarchy",
    "Multiplier",
    "Problem",
    "Rate",
    "StorageError",
    "Sweep",
    "compare",
    "derive",
    "fit_rate",
    "sweep",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
