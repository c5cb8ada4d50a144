"""Errors of images: mean square, peak signal-to-noise ratio and structural similarity.

Values of an image lie in [0, 1], so that the data range is 1; predictions are taken as they are,
without clipping.
"""

from __future__ import annotations

import numpy as np

from gradconv.errors import InputError, shortened

WINDOW = 7  # pixels a side of the window of the structural similarity


def mse(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean square over pixels and channels.

    Parameters
    ----------
    prediction, target : ndarray
        Real, shape ``(N, C, H, W)``.

    Returns
    -------
    ndarray
        Shape ``(N,)``, float64.

    Raises
    ------
    InputError
        If the shapes differ or are no batch of images.
    """
    prediction, target = _images(prediction, target)
    return np.square(prediction - target).mean(axis=(1, 2, 3))


def psnr(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in decibels, −10 log₁₀ of the mean square.

    Parameters
    ----------
    prediction, target : ndarray
        Real, shape ``(N, C, H, W)``.

    Returns
    -------
    ndarray
        Shape ``(N,)``; infinity for equal images.

    Raises
    ------
    InputError
        As `mse`.
    """
    from skimage.metrics import peak_signal_noise_ratio

    prediction, target = _images(prediction, target)
    with np.errstate(divide="ignore"):  # equal images
        return np.array(
            [
                peak_signal_noise_ratio(  # type: ignore[no-untyped-call]
                    true, made, data_range=1.0
                )
                for made, true in zip(prediction, target, strict=True)
            ]
        )


def ssim(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean structural similarity over windows of 7×7 pixels and channels.

    Parameters
    ----------
    prediction, target : ndarray
        Real, shape ``(N, C, H, W)``. On sides of fewer than 7 pixels the window is the largest odd
        one that fits, at least 3.

    Returns
    -------
    ndarray
        Shape ``(N,)``, at most 1.

    Raises
    ------
    InputError
        As `mse`, or if a side has fewer than 3 pixels.

    References
    ----------
    Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, *Image Quality Assessment: From Error
    Visibility to Structural Similarity*, 2004, eq. (13), with equal weights in a window.
    """
    from skimage.metrics import structural_similarity

    prediction, target = _images(prediction, target)
    side = min(prediction.shape[2:])
    if side < 3:
        raise InputError(f"`prediction` must have sides of at least 3 pixels for ssim; got {side}")
    window = min(WINDOW, side - (side + 1) % 2)
    return np.array(
        [
            structural_similarity(  # type: ignore[no-untyped-call]
                true, made, win_size=window, data_range=1.0, channel_axis=0
            )
            for made, true in zip(prediction, target, strict=True)
        ]
    )


def _images(prediction: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for name, values in (("prediction", prediction), ("target", target)):
        sound = isinstance(values, np.ndarray) and values.ndim == 4 and values.size > 0
        if not sound or values.dtype.kind not in "fiu":
            got = values.shape if isinstance(values, np.ndarray) else shortened(values)
            raise InputError(f"`{name}` must be real images of shape (N, C, H, W); got {got}")
    if prediction.shape != target.shape:
        raise InputError(
            f"`prediction` must have the target's shape {target.shape}; got {prediction.shape}"
        )
    return prediction.astype(np.float64), target.astype(np.float64)
