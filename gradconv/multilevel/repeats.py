"""Samples that come again: a sum over levels needs new ones for every term and every step."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch

from gradconv.errors import InputError
from gradconv.samplers import NoisySampler, ProblemSampler, Sampler, TensorSampler

VALUES = 1024  # numbers of a sample that are looked at


class Repeats:
    """Watches the inputs of every term.

    Samplers that number their samples themselves repeat nothing but epochs; those that ask a
    user's callable or loader may.

    Parameters
    ----------
    sampler : Sampler
        Where the samples come from.
    """

    def __init__(self, sampler: Sampler) -> None:
        own = isinstance(sampler, (ProblemSampler, TensorSampler))
        held = isinstance(sampler, NoisySampler) and isinstance(sampler.clean, torch.Tensor)
        self.sampler, self._watch = sampler, not (own or held) and sampler.available != 1
        self._before: dict[int, list[str]] = {}
        self._now: dict[int, list[str]] = {}

    def see(self, level: int, inputs: Sequence[torch.Tensor]) -> None:
        """Take in what a pass of a term was given: fine inputs, and coarse ones if it has any.

        Raises
        ------
        InputError
            If its coarse inputs are, in order, the fine inputs of the term below.
        """
        if not self._watch:
            return
        first = level not in self._now
        below = self._now.get(level - 1, [])
        if len(inputs) > 1 and first and len(inputs[1]) > 1 and len(below) >= len(inputs[1]):
            coarse = _digests(inputs[1])
            if coarse == below[: len(coarse)]:
                raise InputError(
                    "`sampler` must have new samples for every term; on "
                    f"{self._where(level)} it gave those of {self._where(level - 1)} again"
                )
        self._now.setdefault(level, []).extend(_digests(inputs[0]))

    def finish(self) -> None:
        """Compare a step with the one before it.

        Raises
        ------
        InputError
            If every term has the samples of the step before.
        """
        now, before = self._now, self._before
        self._before, self._now = now, {}
        if now and now == before:
            raise InputError(
                "`sampler` must have new samples at every step; it gave all of the step before "
                f"again, from {self._where(min(now))} to {self._where(max(now))}"
            )

    def _where(self, level: int) -> str:
        return f"level {level} (n={self.sampler.hierarchy.sizes[level]})"


def _digests(x: torch.Tensor) -> list[str]:
    flat = x.detach().flatten(1)
    picked = flat[:, :: max(1, flat.shape[1] // VALUES)].cpu().contiguous().numpy()
    return [blake2b(row.tobytes(), digest_size=16).hexdigest() for row in picked]
