"""Assertions, Hypothesis strategies and a pytest plugin for numerical tests of operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradconv.loading import lazy

if TYPE_CHECKING:
    from gradconv.testing.adjoint import assert_adjoint
    from gradconv.testing.failures import CheckFailed
    from gradconv.testing.gradients import assert_gradient_converges
    from gradconv.testing.meshes import assert_mesh_independent
    from gradconv.testing.orders import assert_order
    from gradconv.testing.semigroup import assert_semigroup
    from gradconv.testing.taylor import assert_taylor

# Names load on first use: pytest imports the plugin, and with it this file, in every run.
_HOMES = {
    "CheckFailed": "failures",
    "assert_adjoint": "adjoint",
    "assert_gradient_converges": "gradients",
    "assert_mesh_independent": "meshes",
    "assert_order": "orders",
    "assert_semigroup": "semigroup",
    "assert_taylor": "taylor",
}

__all__ = [
    "CheckFailed",
    "assert_adjoint",
    "assert_gradient_converges",
    "assert_mesh_independent",
    "assert_order",
    "assert_semigroup",
    "assert_taylor",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
