"""Experiments: the same module with one of its habits taken away, and what that does to the gaps.

An intervention replaces a function of torch while the module runs, in a copy of the module that
is never handed out; nothing about the class of a layer is assumed.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as functional
from torch import nn
from torch.overrides import TorchFunctionMode

from gradconv.audit.subject import Subject
from gradconv.audit.trace import Whereabouts
from gradconv.nn.evaluation import ROOT

CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
POOLS: dict[Any, int] = {
    functional.max_pool1d: 1,
    functional.max_pool2d: 2,
    functional.max_pool3d: 3,
    functional.avg_pool1d: 1,
    functional.avg_pool2d: 2,
    functional.avg_pool3d: 3,
}
DROPOUTS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
    torch.dropout,
    torch.feature_dropout,
    torch.alpha_dropout,
    torch.feature_alpha_dropout,
)
NORMALISATIONS = (
    functional.batch_norm,
    functional.instance_norm,
    functional.group_norm,
    functional.layer_norm,
)
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_POOL = ("input", "kernel_size", "stride", "padding")


class Intervention(TorchFunctionMode):
    """Replaces functions while the module runs on one level of one path.

    Attributes
    ----------
    words : str
        What is done, for sentences: ``"with periodic padding"``.
    layers : set of str
        Where it took effect, filled while running.
    """

    words: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.layers: set[str] = set()
        self.place = Whereabouts()
        self.path, self.finest = 0, False

    @abstractmethod
    def replace(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Give another result, or None to leave the call alone."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = self.replace(func, args, kwargs or {})
        if made is None:
            return func(*args, **(kwargs or {}))
        self.layers.add(self.place.layer)
        return made

    @contextmanager
    def acting(self, subject: Subject, level: int, path: int) -> Iterator[None]:
        """Act on what the module does on a level of a path."""
        self.path, self.finest = path, level == len(subject.modules) - 1
        with ExitStack() as stack:
            stack.enter_context(self.place.follow(subject.modules[level]))
            stack.enter_context(self)
            yield


class PeriodicPadding(Intervention):
    """Every padding of a field by zeros, reflection or repetition becomes periodic."""

    words = "with periodic padding instead"

    @contextmanager
    def acting(self, subject: Subject, level: int, path: int) -> Iterator[None]:
        """Act on torch's functions and on layers that extend their fields by themselves."""
        with super().acting(subject, level, path), _periodic(subject.modules[level]) as changed:
            self.layers |= changed
            yield

    @contextmanager
    def around(self, layer: nn.Module) -> Iterator[None]:
        """Act on a single layer that is called by itself."""
        with _periodic(layer), self:
            yield

    def replace(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Wrap the field around."""
        if func in CONVOLUTIONS:
            return self._windowed(func, _CONVOLUTION, CONVOLUTIONS[func], args, kwargs)
        if func in POOLS:
            return self._windowed(func, _POOL, POOLS[func], args, kwargs)
        if func is functional.pad:
            return self._pad(func, args, kwargs)
        return None

    def _windowed(
        self, func: Any, names: tuple[str, ...], dim: int, args: Any, kwargs: dict[str, Any]
    ) -> Any:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        padding = given.get("padding", 0)
        x = given["input"]
        size = given["weight"].shape[2:] if "weight" in given else given["kernel_size"]
        before, after = _pads(padding, size, given.get("dilation", 1), dim)
        fits = all(p <= n for p, n in zip(after, x.shape[-dim:], strict=True))
        if not any(before) or x.ndim != dim + 2 or not fits:
            return None
        x = functional.pad(x, _interleaved(before, after), mode="circular")
        rest = args[len(names) :]
        ordered = [x, *(args[1 : len(names)])]
        if len(args) > names.index("padding"):
            ordered[names.index("padding")] = 0
        else:
            kwargs = {**kwargs, "padding": 0}
        kwargs = {k: v for k, v in kwargs.items() if k != "input"}
        return func(*ordered, *rest, **kwargs)

    def _pad(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = _bound(func, args, kwargs)
        x, pads, mode = given["input"], list(given["pad"]), given["mode"]
        # an extension by half of the field or more is no padding of a window
        small = all(
            0 <= p <= x.shape[-1 - i // 2] // 2 and 2 * p < x.shape[-1 - i // 2]
            for i, p in enumerate(pads)
        )
        field = x.is_floating_point() and len(pads) == 2 * (x.ndim - 2) and x.ndim > 2
        if mode == "circular" or given["value"] or not any(pads) or not (small and field):
            return None
        return func(x, pads, mode="circular")


class HeldStatistics(Intervention):
    """Normalisation by the finest mesh's statistics of the same path, on every mesh.

    Statistics of a single cell (a layer norm over channels) are left alone.
    """

    words = "with its statistics held at those of the finest mesh"

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self.variances: dict[str, dict[bool, float]] = {}
        self.calls = 0

    @contextmanager
    def acting(self, subject: Subject, level: int, path: int) -> Iterator[None]:
        """Count the calls from the start of the run."""
        self.calls = 0
        with super().acting(subject, level, path):
            yield

    def replace(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Normalise by what was seen on the finest mesh."""
        if func not in NORMALISATIONS:
            return None
        given = _bound(func, args, kwargs)
        x = given["input"]
        axes, view = _statistics_axes(func, given)
        if view is None:
            return None
        grouped = x.reshape(view)
        mean = grouped.mean(dim=axes, keepdim=True)
        variance = grouped.var(dim=axes, keepdim=True, unbiased=False)
        key = (self.path, self.calls)
        self.calls += 1
        if self.finest:
            self.held[key] = (mean.detach(), variance.detach())
        seen = self.variances.setdefault(self.place.layer, {})
        seen[self.finest] = float(variance.detach().mean())
        mean, variance = self.held[key]
        y = ((grouped - mean) / torch.sqrt(variance + given["eps"])).reshape(x.shape)
        return _affine(func, y, given)


class NoDropout(Intervention):
    """Dropout passes everything."""

    words = "without the dropout"

    def replace(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the input."""
        if func not in DROPOUTS:
            return None
        given = _bound(func, args, kwargs) if inspect.isfunction(func) else {}
        active = given.get("training", args[2] if len(args) > 2 else True)
        return (args[0] if args else kwargs["input"]) * 1.0 if active else None


class NestedSteps(Intervention):
    """Downsampling by 4 or more becomes steps by 2 of the same kind."""

    words = "with steps by 2 instead"

    def replace(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Halve until the size is reached."""
        if func is not functional.interpolate:
            return None
        given = _bound(func, args, kwargs)
        direct = func(**given)
        return chained(given, direct)


def chained(given: dict[str, Any], direct: torch.Tensor) -> torch.Tensor | None:
    """Repeat an interpolation in halvings; None if it is no step by a power of two above 2.

    Parameters
    ----------
    given : dict
        Arguments of `torch.nn.functional.interpolate`.
    direct : Tensor
        Its result.
    """
    x = given["input"]
    factors = {n // m if m and n % m == 0 else 0 for n, m in
               zip(x.shape[2:], direct.shape[2:], strict=True)}  # fmt: skip
    factor = factors.pop() if len(factors) == 1 else 0
    if factor < 4 or factor & (factor - 1):
        return None
    same = {k: given[k] for k in ("mode", "align_corners", "antialias")}
    while x.shape[2:] != direct.shape[2:]:
        size = [n // 2 for n in x.shape[2:]]
        x = functional.interpolate(x, size=size, **same)
    return x


@contextmanager
def _periodic(module: nn.Module) -> Iterator[set[str]]:
    """Switch the layers whose padding is none of torch's functions; gives their names."""
    walls = {
        name or ROOT: layer
        for name, layer in module.named_modules()
        if getattr(layer, "padding_mode", None) in ("zero", "reflect")
        and not hasattr(layer, "_reversed_padding_repeated_twice")  # torch's own use functions
    }
    modes = {name: layer.padding_mode for name, layer in walls.items()}
    try:
        for layer in walls.values():
            layer.padding_mode = "periodic"
        yield set(walls)
    finally:
        for name, layer in walls.items():
            layer.padding_mode = modes[name]


def _bound(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = inspect.signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _tuple(value: Any, dim: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else (value,)
    return tuple(int(v) for v in (values * dim if len(values) == 1 else values))


def _pads(padding: Any, size: Any, dilation: Any, dim: int) -> tuple[list[int], list[int]]:
    """Cells put before and after each axis."""
    if padding == "valid":
        return [0] * dim, [0] * dim
    if padding == "same":
        spans = [(k - 1) * d for k, d in zip(_tuple(size, dim), _tuple(dilation, dim), strict=True)]
        return [s // 2 for s in spans], [s - s // 2 for s in spans]
    both = list(_tuple(padding, dim))
    return both, both


def _interleaved(before: list[int], after: list[int]) -> list[int]:
    """Arguments of `pad`: the last axis first."""
    return [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]


def _statistics_axes(
    func: Any, given: dict[str, Any]
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Axes of the statistics and the shape that has them; None where they span no mesh."""
    x = given["input"]
    space = tuple(range(2, x.ndim))
    if func is functional.batch_norm:
        on = given["training"] or given["running_mean"] is None
        return (0, *space), tuple(x.shape) if on and space else None
    if func is functional.instance_norm:
        return space, tuple(x.shape) if given["use_input_stats"] and space else None
    if func is functional.group_norm:
        view = (x.shape[0], given["num_groups"], -1)
        return (2,), view if space else None
    spanned = len(given["normalized_shape"])
    return tuple(range(x.ndim - spanned, x.ndim)), tuple(x.shape) if spanned > 1 else None


def _affine(func: Any, y: torch.Tensor, given: dict[str, Any]) -> torch.Tensor:
    for name in ("weight", "bias"):
        values = given[name]
        if values is None:
            continue
        if func is not functional.layer_norm:
            values = values.reshape((1, -1, *(1,) * (y.ndim - 2)))
        y = y * values if name == "weight" else y + values
    return y
