"""The variance of the gap, and with it the rms gap, in powers of h."""

from gradconv.laws.variance.laws import rms_law, variance_expansion, variance_law

__all__ = ["rms_law", "variance_expansion", "variance_law"]
