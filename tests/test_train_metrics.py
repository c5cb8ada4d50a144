"""Errors of images against their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gradconv import InputError
from gradconv.train.metrics import mse, psnr, ssim


def _pair(shape: tuple[int, ...] = (3, 2, 12, 9), noise: float = 0.1) -> tuple[Any, Any]:
    rng = np.random.default_rng(2)
    target = rng.random(shape)
    scale = noise * np.arange(1, shape[0] + 1).reshape(-1, 1, 1, 1)
    return target + scale * rng.standard_normal(shape), target


def _similarity(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """Wang et al. (2004), eq. (13), window by window, with unbiased covariances."""
    found = []
    for i in range(a.shape[0] - window + 1):
        for j in range(a.shape[1] - window + 1):
            p, q = (x[i : i + window, j : j + window].ravel() for x in (a, b))
            (pp, pq), (_, qq) = np.cov(p, q)
            c1, c2 = 0.01**2, 0.03**2
            means = (2 * p.mean() * q.mean() + c1) / (p.mean() ** 2 + q.mean() ** 2 + c1)
            found.append(means * (2 * pq + c2) / (pp + qq + c2))
    return float(np.mean(found))


def test_mse_and_psnr_are_their_formulas() -> None:
    made, target = _pair()
    for i in range(3):
        square = sum(float(v) ** 2 for v in (made[i] - target[i]).ravel()) / made[i].size
        assert mse(made, target)[i] == pytest.approx(square, rel=1e-12)
        assert psnr(made, target)[i] == pytest.approx(10 * math.log10(1 / square), rel=1e-12)
    # noise of deviation 0.1 has 20 decibels
    wide, flat = _pair((1, 1, 256, 256))
    assert psnr(wide, flat)[0] == pytest.approx(20, abs=0.1)
    assert psnr(10 * wide, 10 * flat)[0] == pytest.approx(0, abs=0.1)  # the range stays 1


@pytest.mark.parametrize(("side", "window"), [(12, 7), (7, 7), (6, 5), (5, 5), (4, 3), (3, 3)])
def test_ssim_is_its_definition(side: int, window: int) -> None:
    made, target = _pair((2, 3, side, side + 2))
    for i, value in enumerate(ssim(made, target)):
        channels = [_similarity(made[i, c], target[i, c], window) for c in range(3)]
        assert value == pytest.approx(np.mean(channels), rel=1e-9)
    if side > 4:
        other = np.mean([_similarity(made[0, c], target[0, c], window - 2) for c in range(3)])
        assert abs(ssim(made, target)[0] - other) > 1e-4


def test_equal_images_and_worse_ones() -> None:
    made, target = _pair()
    assert mse(target, target).tolist() == [0.0] * 3
    assert psnr(target, target).tolist() == [math.inf] * 3
    np.testing.assert_allclose(ssim(target, target), 1.0, rtol=1e-12)
    # noise grows from image to image
    assert (np.diff(mse(made, target)) > 0).all()
    assert (np.diff(psnr(made, target)) < 0).all()
    assert (np.diff(ssim(made, target)) < 0).all()
    assert (ssim(1 - target, target) < 0).all()


def test_an_image_is_judged_alone() -> None:
    made, target = _pair()
    for measure in (mse, psnr, ssim):
        together = measure(made, target)
        assert together.shape == (3,)
        assert together.dtype == np.float64
        for i in range(3):
            assert measure(made[i : i + 1], target[i : i + 1])[0] == together[i]
        single = measure(made.astype(np.float32), target.astype(np.float32))
        np.testing.assert_allclose(single, together, rtol=1e-5)
        broken = made.copy()
        broken[1, 0, 0, 0] = np.nan
        assert np.isnan(measure(broken, target)).tolist() == [False, True, False]


@pytest.mark.parametrize("measure", [mse, psnr, ssim])
def test_what_is_no_pair_of_images(measure: Any) -> None:
    made, target = _pair()
    with pytest.raises(InputError, match=r"`prediction` must have the target's shape \(3, 2"):
        measure(made[:2], target)
    for bad in (made[0], made + 1j, list(made), made[:0]):
        with pytest.raises(InputError, match=r"`prediction` must be real images of shape \(N, C"):
            measure(bad, target)
    with pytest.raises(InputError, match="`target` must be real images"):
        measure(made, None)
    with pytest.raises(InputError, match="sides of at least 3 pixels for ssim; got 2"):
        ssim(made[..., :2], target[..., :2])
