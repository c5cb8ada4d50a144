"""Scaling laws: what the gradient of a problem does as h → 0, derived instead of measured."""

from __future__ import annotations

from gradconv.laws.derive import derive
from gradconv.laws.law import Law, QuantityLaw, Term

__all__ = ["Law", "QuantityLaw", "Term", "derive"]
