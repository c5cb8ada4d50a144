"""The atlas: every cell of the product of choices, derived and measured."""

from __future__ import annotations
