"""Means, variances, kurtosis and consistency of the terms' gradients, for a group of components.

Everything follows from inner products of the samples' gradients, which add up over components:
those of the whole are the sums of those of the layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gradconv.multilevel.diagnosis.sample_gradients import Array, SampleGradients
from gradconv.multilevel.moments import Moments
from gradconv.nn.evaluation import WHOLE, by_layer

SIGMAS = 3.0  # of each term of the check's limit, as in Giles' code
ROUNDING = 1e3  # epsilons of the means' size that are no inconsistency
BATCH = 256  # samples whose products with each other are all taken


@dataclass(frozen=True)
class Products:
    """Inner products of one level's gradients, of fine, coarse and difference (first axis).

    Parameters
    ----------
    gram : ndarray
        Of the gradients less their mean, within batches of M samples, M at most 256, shape
        ``(3, batches, M, M)``: the full matrix would grow with N², and only the sum of its squares
        is needed, in a correction of second order.
    deviations : ndarray
        Squared distances from the mean, shape ``(3, N)``.
    along : ndarray
        Of the gradients less their mean with the mean, shape ``(3, N)``.
    square : ndarray
        Squared norms of the means, shape ``(3,)``.
    apart : float
        Squared norm of E g_{l−1} on the samples of term l − 1 less that on those of term l.
    """

    gram: Array
    deviations: Array
    along: Array
    square: Array
    apart: float

    def __add__(self, other: Products) -> Products:
        """Join two sets of components."""
        return Products(
            self.gram + other.gram,
            self.deviations + other.deviations,
            self.along + other.along,
            self.square + other.square,
            self.apart + other.apart,
        )

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.deviations.shape[1])

    @property
    def gram_squares(self) -> Array:
        """Sum of squares of the full matrix of products, shape ``(3,)``: exact up to 256 samples.

        Of more, products of different samples are taken within batches and stand for all.
        """
        batches, size = self.gram.shape[1:3]
        own = np.einsum("kbnn->kbn", self.gram)
        others = np.sum(self.gram**2, axis=(1, 2, 3)) - np.sum(own**2, axis=(1, 2))
        pairs = batches * size * (size - 1.0)
        n = self.samples
        return np.asarray(np.sum(self.deviations**2, axis=1) + others * n * (n - 1.0) / pairs)

    @property
    def variances(self) -> Array:
        """Traces of the covariances, shape ``(3,)``."""
        return np.asarray(self.deviations.sum(axis=1) / (self.samples - 1))

    @property
    def variance_errors(self) -> Array:
        """Standard errors of the variances, shape ``(3,)``: V ((κ − 1)/N)^{1/2}."""
        n, q = self.samples, self.deviations
        centred = q - q.mean(axis=1, keepdims=True)
        return np.asarray(np.sqrt(np.sum(centred**2, axis=1) / (n * (n - 1.0))) * n / (n - 1.0))

    @property
    def second_moment_errors(self) -> Array:
        """Standard errors of the means of ‖g‖² (not centred), shape ``(3,)``."""
        squares = self.deviations + 2.0 * self.along
        return np.asarray(squares.std(axis=1, ddof=1) / np.sqrt(self.samples))

    @property
    def kurtosis(self) -> float:
        """E‖d − μ‖⁴/(E‖d − μ‖²)² of the difference: 3 for a Gaussian scalar; NaN if constant."""
        q = self.deviations[2]
        mean = float(q.mean())
        return float(np.mean(q**2)) / mean**2 if mean > 0 else float("nan")

    @property
    def mean_squares(self) -> Array:
        """Squared norms of the means less their sampling error, signed, shape ``(3,)``."""
        return np.asarray(self.square - self.variances / self.samples)

    @property
    def mean_norms(self) -> tuple[Array, Array]:
        """Debiased norms of the means and their standard errors, shapes ``(3,)``.

        The same numbers as `gradconv.bootstrap.estimate` of the gradients as vectors: infinite
        errors where a square is clipped at 0.
        """
        n = self.samples
        first = 4.0 * np.sum(self.along**2, axis=1) / (n * (n - 1.0))
        second = 2.0 * self.gram_squares / (n * (n - 1.0)) ** 2
        norms = np.sqrt(np.maximum(self.mean_squares, 0.0))
        spread = np.sqrt(first + second)
        with np.errstate(divide="ignore", invalid="ignore"):
            return norms, np.where(spread > 0, spread / (2.0 * norms), 0.0)


def products(
    gradients: SampleGradients, columns: Iterable[slice], rows: slice = slice(None)
) -> list[Products]:
    """Inner products on every level, coarse to fine.

    Parameters
    ----------
    gradients : SampleGradients
        Of the samples.
    columns : iterable of slice
        Components of the group.
    rows : slice
        Samples to take of each term.
    """
    totals: list[Products] = []
    for part in columns:
        for piece in gradients.pieces(part):
            found = _piece(gradients, piece, rows)
            totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
    return totals


def _piece(gradients: SampleGradients, columns: slice, rows: slice) -> list[Products]:
    found = []
    below = None
    for level in range(gradients.levels):
        fine, coarse = gradients.read(level, columns, rows)
        vectors = np.stack([fine, coarse, fine - coarse])
        batch = min(BATCH, len(fine))
        means = vectors.mean(axis=1, keepdims=True)
        vectors -= means
        mean = means[:, 0]
        batches = vectors[:, : batch * (vectors.shape[1] // batch)]
        batches = batches.reshape(3, -1, batch, vectors.shape[2])
        apart = 0.0 if below is None else float(np.sum((below - mean[1]) ** 2))
        found.append(
            Products(
                batches @ np.swapaxes(batches, 2, 3),
                np.einsum("knp,knp->kn", vectors, vectors),
                np.einsum("knp,kp->kn", vectors, mean),
                np.einsum("kp,kp->k", mean, mean),
                apart,
            )
        )
        below = mean[0]
    return found


@dataclass(frozen=True)
class LevelTable:
    """Statistics of a group of components, one value a level, coarse to fine.

    Fine is g_l, coarse g_{l−1}, the difference g_l − g_{l−1}, all on the samples of term l; on
    level 0 there is no coarse gradient, and the difference is g_0.

    Parameters
    ----------
    name : str
        ``"whole"``, a layer's dotted name, or a component's, such as ``layer.weight[0,1,2,0]``.
    kind : {"whole", "layer", "component"}
        Which of the three.
    size : int
        Number of components.
    products : tuple of Products
        Of the levels.
    epsilon : float
        Machine epsilon of the arithmetic.
    """

    name: str
    kind: str
    size: int
    products: tuple[Products, ...]
    epsilon: float

    @property
    def samples(self) -> int:
        """Samples a term."""
        return self.products[0].samples

    def __len__(self) -> int:
        """Return the number of levels."""
        return len(self.products)

    def variance(self, which: int) -> tuple[Array, Array]:
        """Variances of fine (0), coarse (1) or difference (2), with standard errors."""
        return (
            np.array([p.variances[which] for p in self.products]),
            np.array([p.variance_errors[which] for p in self.products]),
        )

    def mean(self, which: int) -> tuple[Array, Array]:
        """Debiased norms of the means, with standard errors (infinite where clipped at 0)."""
        found = [p.mean_norms for p in self.products]
        return np.array([f[0][which] for f in found]), np.array([f[1][which] for f in found])

    @property
    def kurtosis(self) -> Array:
        """Kurtosis of the difference; NaN where it does not vary."""
        return np.array([p.kurtosis for p in self.products])

    @property
    def check(self) -> Array:
        """Giles' consistency check |a − b + c| / (3(√V_a + √V_b + √V_c)/√N), NaN on level 0.

        a is the mean of g_{l−1} on the samples of term l − 1, b and c those of g_l and of the
        difference on term l. Of vectors, norms and traces are taken; above 1 the sum does not
        telescope. For a Gaussian scalar, a false alarm has probability 2.2e-5 where levels hardly
        differ (the limit is 6 √V against a standard deviation of √(2V)); less for a vector.

        References
        ----------
        M. B. Giles, "Multilevel Monte Carlo methods", Acta Numerica 24, 2015, section 3.4.
        """
        found = [float("nan")]
        for below, here in zip(self.products, self.products[1:], strict=False):
            spread = np.sqrt(below.variances[0]) + np.sqrt(here.variances[0])
            limit = SIGMAS * (spread + np.sqrt(here.variances[2])) / np.sqrt(self.samples)
            rounding = ROUNDING * self.epsilon * np.sqrt(below.square[0] + here.square[1])
            apart = float(np.sqrt(here.apart))
            found.append(apart / max(float(limit), float(rounding)) if apart else 0.0)
        return np.array(found)

    @property
    def moments(self) -> Moments:
        """What allocations, weights and predictions follow from."""
        fine, coarse, difference = (self.variance(which)[0] for which in range(3))
        coarse[0] = 0.0
        return Moments(
            fine,
            coarse,
            np.where(np.arange(len(self)) > 0, (fine + coarse - difference) / 2.0, 0.0),
            np.array([p.mean_squares[2] for p in self.products]),
            self.samples,
            np.array([p.mean_squares[0] for p in self.products]),
        )


def tables(gradients: SampleGradients) -> tuple[LevelTable, ...]:
    """Tables of the whole and of each layer, in this order; a single layer is the whole."""
    found = []
    total: list[Products] = []
    for layer, names in by_layer(gradients.columns).items():
        columns = [gradients.columns[name] for name in names]
        made = products(gradients, columns)
        total = [a + b for a, b in zip(total, made, strict=True)] if total else made
        size = sum(c.stop - c.start for c in columns)
        found.append(LevelTable(layer, "layer", size, tuple(made), gradients.epsilon))
    whole = LevelTable(WHOLE, "whole", gradients.size, tuple(total), gradients.epsilon)
    return (whole, *found) if len(found) > 1 else (whole,)
