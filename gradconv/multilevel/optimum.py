"""What follows from variances and costs of the terms: sample numbers, weights, probabilities.

A term l costs C_l a sample and has variance V_l. N_l samples a term give the sum over levels the
variance Σ V_l/N_l at the cost Σ N_l C_l; at the optimum N_l ∝ (V_l/C_l)^{1/2}, and
variance × cost = (Σ (V_l C_l)^{1/2})².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from gradconv.errors import InputError, check_positive, shortened
from gradconv.multilevel.moments import Array, Moments


def optimal_counts(
    variances: Array, costs: Array, *, variance: float | None = None, budget: float | None = None
) -> Array:
    """Real sample numbers with the least cost for a variance, or the least variance for a cost.

    Parameters
    ----------
    variances : ndarray
        V_l of each term, shape ``(levels,)``.
    costs : ndarray
        C_l of one sample of each term, > 0.
    variance : float, optional
        Target variance of the sum over levels, > 0. Exactly one of the two is given.
    budget : float, optional
        Cost of all samples, in the unit of `costs`, > 0.

    Returns
    -------
    ndarray
        N_l, not rounded, shape ``(levels,)``.

    Raises
    ------
    InputError
        If a rule above is broken, or a variance is zero (named with its level: no number of
        samples follows from it) or not finite.

    References
    ----------
    M. B. Giles, "Multilevel Monte Carlo methods", Acta Numerica 24, 2015, section 1.3.
    """
    _check(variances, costs)
    if (variance is None) == (budget is None):
        got = "neither" if variance is None else "both"
        raise InputError(f"`variance` or `budget`: exactly one must be given; got {got}")
    ratio = np.sqrt(np.asarray(variances) / np.asarray(costs))
    root = float(np.sum(np.sqrt(np.asarray(variances) * np.asarray(costs))))
    if variance is not None:
        check_positive("variance", variance)
        return np.asarray(ratio * root / variance)
    assert budget is not None
    check_positive("budget", budget)
    return np.asarray(ratio * budget / root)


def _check(variances: Array, costs: Array) -> None:
    v, c = np.asarray(variances, dtype=float), np.asarray(costs, dtype=float)
    if v.ndim != 1 or v.shape != c.shape or not len(v):
        raise InputError(
            f"`variances` and `costs` must have one value a level; got {v.shape} and {c.shape}"
        )
    for name, values in (("variances", v), ("costs", c)):
        bad = ~(np.isfinite(values) & (values > 0))
        if np.any(bad):
            level = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"`{name}` must be finite and > 0 on every level; got {values[level]} on level "
                f"{level}"
            )


@dataclass(frozen=True)
class ControlWeights:
    """Weights θ_l of the coarse gradients, and what they gain.

    Parameters
    ----------
    theta : ndarray
        θ_l of term l, shape ``(levels,)``; θ_0 is 0, as there is no coarse gradient.
    gain : float
        Variance × cost of the plain sum, all θ = 1, over that with these weights; at least 1 on
        the moments that they were found from.
    """

    theta: Array
    gain: float


def control_weights(moments: Moments, costs: Array, single: Array) -> ControlWeights:
    """Weights that make variance × cost least.

    E g_L = E[g_L − θ_L g_{L−1}] + θ_L E g_{L−1} holds for any θ, and so on down the levels. With
    K_l the root of the least variance × cost of an estimate of E g_l,
    K_l = min over θ of (C_l Var(g_l − θ g_{l−1}))^{1/2} + |θ| K_{l−1}, a convex problem a level;
    θ = 0 leaves all coarser levels out and makes the term a single-level one at its own cost.

    Parameters
    ----------
    moments : Moments
        Of the gradients. Weights must come from other samples than those they are used on, or the
        estimate is biased.
    costs : ndarray
        Cost of one sample of each term, fine and coarse gradient, shape ``(levels,)``.
    single : ndarray
        Cost of one sample's fine gradient alone.

    Returns
    -------
    ControlWeights
    """
    _check(np.maximum(moments.fine, 1e-300), costs)
    theta = np.zeros(len(moments))
    root = float(np.sqrt(moments.fine[0] * costs[0]))
    plain = root
    for level in range(1, len(moments)):
        below = root

        def total(t: float, level: int = level, below: float = below) -> float:
            weights = np.full(len(moments), t)
            spread = moments.variance(weights)[level]
            return float(np.sqrt(costs[level] * spread)) + abs(t) * below

        best = minimize_scalar(total, bounds=(-2.0, 2.0), method="bounded", options={"xatol": 1e-9})
        candidates = [(total(1.0), 1.0), (float(best.fun), float(best.x))]
        candidates.append((float(np.sqrt(single[level] * moments.fine[level])), 0.0))
        root, theta[level] = min(candidates)
        plain += float(np.sqrt(costs[level] * moments.difference[level]))
    gain = (plain / root) ** 2 if root > 0 else 1.0
    return ControlWeights(theta, float(gain))


def given_weights(control: object, levels: int) -> ControlWeights:
    """Weights that a user gave, one a level, coarse to fine; None is the plain sum.

    Raises
    ------
    InputError
        If they are no finite numbers, or too few or many.
    """
    theta = np.ones(levels)
    if control is not None:
        try:
            theta = np.asarray(control, dtype=float)
        except (TypeError, ValueError):
            theta = np.empty((0, 0))
    if isinstance(control, str) or theta.shape != (levels,) or not np.all(np.isfinite(theta)):
        raise InputError(
            f"`control` must be None, 'optimal' or {levels} finite weights, coarse to fine; "
            f"got {shortened(control)}"
        )
    return ControlWeights(np.append(0.0, theta[1:]), 1.0)


def randomised_probabilities(second: Array, costs: Array) -> Array:
    """Probabilities of the levels of a single-term estimator with the least variance × cost.

    A draw of term l with probability p_l, divided by p_l, has mean E g_L and variance
    Σ E‖d_l‖²/p_l − ‖E g_L‖²; p_l ∝ (E‖d_l‖²/C_l)^{1/2} is the optimum but for the last part.

    Parameters
    ----------
    second : ndarray
        E‖d_l‖², variance and squared mean of each term, shape ``(levels,)``.
    costs : ndarray
        C_l of one sample of each term.

    References
    ----------
    C. Rhee, P. W. Glynn, "Unbiased estimation with square root convergence for SDE models",
    Operations Research 63, 2015.
    """
    _check(second, costs)
    weight = np.sqrt(np.asarray(second) / np.asarray(costs))
    return np.asarray(weight / np.sum(weight))
