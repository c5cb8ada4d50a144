"""The two array libraries gradconv computes with: numpy (the CPU reference) and torch (devices)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradconv.errors import InputError, shortened, unknown_name

Array = Any  # numpy.ndarray or torch.Tensor: the numerical code is written once for both

_LIBRARIES = ("auto", "numpy", "torch")
_REAL = {"float64": np.float64, "float32": np.float32}
_COMPLEX = {"float64": np.complex128, "float32": np.complex64}


@dataclass(frozen=True)
class Backend:
    """Where arrays live and in which precision.

    Parameters
    ----------
    device : str
        ``"cpu"`` computes with numpy and scipy; anything else is a torch device.
    dtype : str
        ``"float64"`` or ``"float32"``.
    library : str
        ``"auto"``, or ``"numpy"``/``"torch"`` to force one (tests hold them together).
    """

    device: str = "cpu"
    dtype: str = "float64"
    library: str = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.device, str):
            raise InputError(f"`device` must be text; got {shortened(self.device)}")
        if not isinstance(self.dtype, str) or self.dtype not in _REAL:
            raise InputError(f"`dtype` must be float64 or float32; got {shortened(self.dtype)}")
        if self.library not in _LIBRARIES:
            raise unknown_name("library", self.library, _LIBRARIES)
        if self.library == "numpy" and not self.on_cpu:
            raise InputError(f"`library` numpy needs device cpu; got {shortened(self.device)}")
        if not self.on_cpu:
            self._check_device()

    def _check_device(self) -> None:
        import torch

        try:
            torch.zeros(1, device=self.device).cpu()
        except Exception as error:  # each backend of torch has errors of its own
            first = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"`device` must be cpu or a device that torch can use here; "
                f"got {shortened(self.device)} ({first})"
            ) from None

    @property
    def on_cpu(self) -> bool:
        """Whether arrays live in main memory."""
        return self.device == "cpu"

    @property
    def uses_torch(self) -> bool:
        """Whether arrays are torch tensors."""
        return self.library == "torch" or (self.library == "auto" and not self.on_cpu)

    @property
    def epsilon(self) -> float:
        """Distance from 1 to the next floating-point number."""
        return float(np.finfo(self.dtype).eps)

    @property
    def itemsize(self) -> int:
        """Bytes of one real number."""
        return int(np.dtype(_REAL[self.dtype]).itemsize)

    def array(self, values: Any) -> Array:
        """Move real or complex values to the device in the backend's precision."""
        values = np.asarray(values)
        kinds = _COMPLEX if np.iscomplexobj(values) else _REAL
        values = np.ascontiguousarray(values, dtype=kinds[self.dtype])
        if not self.uses_torch:
            return values
        import torch

        return torch.from_numpy(values).to(self.device)

    def numpy(self, values: Array) -> np.ndarray:
        """Bring an array back as numpy."""
        return values.cpu().numpy() if self.uses_torch else np.asarray(values)

    def rfftn(self, x: Array, dim: int, columns: int | None = None) -> Array:
        """Real FFT over the last `dim` axes, as Fourier coefficients (divided by n**dim).

        Given `columns`, only so many of the last axis are kept, and the others not transformed on.
        """
        axes = tuple(range(-dim, 0))
        if self.uses_torch:
            import torch

            if columns is None or dim == 1:
                return torch.fft.rfftn(x, dim=axes, norm="forward")[..., :columns]
            half = torch.fft.rfft(x, norm="forward")[..., :columns]
            return torch.fft.fftn(half, dim=axes[:-1], norm="forward")
        import scipy.fft

        if columns is None or dim == 1:
            return scipy.fft.rfftn(x, axes=axes, norm="forward")[..., :columns]
        half = scipy.fft.rfft(x, norm="forward")[..., :columns]
        return scipy.fft.fftn(half, axes=axes[:-1], norm="forward")

    def irfftn(self, x: Array, shape: Sequence[int]) -> Array:
        """Inverse of `rfftn` onto real arrays of the given trailing `shape`."""
        axes = tuple(range(-len(shape), 0))
        if self.uses_torch:
            import torch

            return torch.fft.irfftn(x, s=tuple(shape), dim=axes, norm="forward")
        import scipy.fft

        return scipy.fft.irfftn(x, s=tuple(shape), axes=axes, norm="forward")

    def concatenate(self, parts: Sequence[Array], axis: int) -> Array:
        """Join arrays along `axis`."""
        if self.uses_torch:
            import torch

            return torch.cat(tuple(parts), dim=axis)
        return np.concatenate(tuple(parts), axis=axis)


NUMPY = Backend()
