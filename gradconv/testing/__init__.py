"""Assertions, Hypothesis strategies and a pytest plugin for numerical tests of operators."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradconv.testing' has no attribute {name!r}")
    value = getattr(import_module(f"gradconv.testing.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
