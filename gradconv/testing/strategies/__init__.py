"""Hypothesis strategies for meshes, data, kernels, problems and small networks.

Every argument may be a value or a strategy of values. Draws are what the command line and
`gradconv.Problem` take, so that a failing example can be pasted, and shrink to the simplest one:
the smallest mesh, no noise, the identity, round numbers. Nothing is global: no registration, no
random state.

Needs Hypothesis: ``pip install "gradconv[testing]"``.

Examples
--------
>>> from hypothesis import given
>>> from gradconv.gradient import expected_gradients, has_expectation
>>> from gradconv.testing import strategies as gst
>>> @given(gst.placed_problems(boundary="periodic"))
... def test_expectations_exist(placed):
...     problem, hierarchy = placed
...     assert has_expectation(problem)
"""

from __future__ import annotations

try:
    import hypothesis  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "gradconv.testing.strategies needs Hypothesis; install it with "
        '`pip install "gradconv[testing]"`',
        name="hypothesis",
    ) from missing

from gradconv.testing.strategies.choices import (
    boundaries,
    kernels,
    noises,
    restrictions,
    routes,
    settings,
    signals,
    targets,
)
from gradconv.testing.strategies.combined import placed_problems, problems
from gradconv.testing.strategies.domains import Waves, dims, fields, hierarchies, meshes, waves
from gradconv.testing.strategies.networks import modules, network
from gradconv.testing.strategies.parameters import (
    MFCParameters,
    kernel_options,
    mfc_parameters,
    stencils,
)
from gradconv.testing.strategies.values import round_numbers

__all__ = [
    "MFCParameters",
    "Waves",
    "boundaries",
    "dims",
    "fields",
    "hierarchies",
    "kernel_options",
    "kernels",
    "meshes",
    "mfc_parameters",
    "modules",
    "network",
    "noises",
    "placed_problems",
    "problems",
    "restrictions",
    "round_numbers",
    "routes",
    "settings",
    "signals",
    "stencils",
    "targets",
    "waves",
]
