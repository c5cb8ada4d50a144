"""The convolution as one operation that torch.compile does not look into.

Which modes are computed depends on the weights, and a traced graph cannot hold that. The
operation is opaque, so that the graph around it stays whole; its backward pass is another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradconv.nn.engine.operator import Settings, mesh_free


def traced(
    x: Tensor, coefficients: Tensor, quadratic: Tensor, drift: Tensor, settings: Settings
) -> Tensor:
    """`operator.mesh_free` for a graph under compilation; once differentiable."""
    return _forward(x, coefficients, quadratic, drift, *_flat(settings))


def _flat(s: Settings) -> tuple[int, list[float], str, list[int], str, float, str]:
    return (
        s.groups,
        list(s.extent),
        s.padding,
        list(s.stride),
        s.restriction,
        s.tolerance,
        s.path,
    )


def _settings(
    groups: int,
    extent: Sequence[float],
    padding: str,
    stride: Sequence[int],
    restriction: str,
    tolerance: float,
    path: str,
) -> Settings:
    return Settings(groups, tuple(extent), padding, tuple(stride), restriction, tolerance, path)


@torch.library.custom_op("gradconv::mesh_free", mutates_args=())
def _forward(
    x: Tensor,
    coefficients: Tensor,
    quadratic: Tensor,
    drift: Tensor,
    groups: int,
    extent: Sequence[float],
    padding: str,
    stride: Sequence[int],
    restriction: str,
    tolerance: float,
    path: str,
) -> Tensor:
    chosen = _settings(groups, extent, padding, stride, restriction, tolerance, path)
    return mesh_free(x, coefficients, quadratic, drift, chosen).contiguous()


@_forward.register_fake
def _(
    x: Tensor,
    coefficients: Tensor,
    _quadratic: Tensor,
    _drift: Tensor,
    _groups: int,
    _extent: Sequence[float],
    _padding: str,
    stride: Sequence[int],
    *_rest: object,
) -> Tensor:
    out = [n // factor for n, factor in zip(x.shape[2:], stride, strict=True)]
    return x.new_empty(x.shape[0], coefficients.shape[0], *out)


@torch.library.custom_op("gradconv::mesh_free_backward", mutates_args=())
def _backward(
    grad: Tensor,
    x: Tensor,
    coefficients: Tensor,
    quadratic: Tensor,
    drift: Tensor,
    groups: int,
    extent: Sequence[float],
    padding: str,
    stride: Sequence[int],
    restriction: str,
    tolerance: float,
    path: str,
) -> list[Tensor]:
    chosen = _settings(groups, extent, padding, stride, restriction, tolerance, path)
    leaves = [t.detach().requires_grad_() for t in (x, coefficients, quadratic, drift)]
    with torch.enable_grad():
        y = mesh_free(leaves[0], leaves[1], leaves[2], leaves[3], chosen)
    return [g.contiguous() for g in torch.autograd.grad(y, leaves, grad)]


@_backward.register_fake
def _(_grad: Tensor, *inputs: Tensor) -> list[Tensor]:
    return [torch.empty_like(t) for t in inputs[:4]]


def _save(ctx: object, inputs: tuple[object, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])  # type: ignore[attr-defined]
    ctx.rest = inputs[4:]  # type: ignore[attr-defined]


def _differentiate(ctx: object, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved, rest = ctx.saved_tensors, ctx.rest  # type: ignore[attr-defined]
    return (*_backward(grad, *saved, *rest), *(None,) * len(rest))


_forward.register_autograd(_differentiate, setup_context=_save)
