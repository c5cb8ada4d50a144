"""What the causes are judged by: probes of every layer, experiments on a few paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradconv.audit.effects import TENTH, Effect
from gradconv.audit.experiments import PATHS, Acting, Gaps, gaps
from gradconv.audit.measure import Tick
from gradconv.audit.probes import Response, input_power, response, shift_error
from gradconv.audit.subject import Subject
from gradconv.audit.trace import Call, trace
from gradconv.nn.evaluation import ROOT, WHOLE, by_layer
from gradconv.samplers import Sampler

if TYPE_CHECKING:
    from gradconv.audit.result import Audit

BROKEN = ("diverges", "stalls")
EXPERIMENT_KEY = 2**19


@dataclass
class Evidence:
    """Everything that was measured about a module's layers.

    Parameters
    ----------
    subject, data, result, stochastic, step
        As in `gradconv.audit.explaining.find`.
    layers : dict of str to list of str
        Parameters that take a gradient, by the layer that owns them.
    base : Gaps
        Gaps of the first paths, as the module is.
    paths : int
        How many paths experiments take.
    sizes : dict
        By layer, (cells of input, cells of output) along each axis, one entry a level.
    powers : dict
        By layer, power of the input's fluctuation in space, one value a level.
    responses : dict
        By layer, responses on the two finest levels.
    shifts : dict
        By layer, error of commuting with a shift.
    noisy : dict
        By layer, relative change of the output from one random state to another.
    """

    subject: Subject
    data: Sampler
    result: Audit
    stochastic: bool
    step: Tick
    layers: dict[str, list[str]]
    base: Gaps
    paths: int
    sizes: dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]] = field(default_factory=dict)
    powers: dict[str, list[float]] = field(default_factory=dict)
    responses: dict[str, list[Response]] = field(default_factory=dict)
    shifts: dict[str, float] = field(default_factory=dict)
    noisy: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All parameters."""
        return list(self.subject.parameters)

    def verdict(self, layer: str) -> str:
        """Worse verdict of a layer's gaps; of the whole's for what owns no parameters."""
        return self.result.group_verdict(layer if layer in self.layers else WHOLE)

    def broken(self, layer: str) -> bool:
        """Whether a layer's gap diverges or stalls."""
        return self.verdict(layer) in BROKEN

    def severity(self, layer: str, effect: Effect) -> str:
        """How grave a cause is whose removal has this effect."""
        if self.broken(layer):
            return "breaks" if effect.cures or effect.share.below(TENTH) else "limits"
        undecided = self.verdict(layer) == "undecided"
        return "suspect" if undecided and effect.stands_in_the_way else "limits"

    def effect(self, changed: Gaps, names: list[str]) -> Effect:
        """Compare gaps under an intervention with those of the same paths without."""
        return self.base.effect(changed, names, self.result.confidence)

    def experiment(self, acting: Acting) -> Gaps | None:
        """Measure the gaps of the first paths under an intervention."""
        return gaps(self.subject, self.data, self.paths, self.step, acting)

    def acts(self, acting: Any) -> bool:
        """Whether an intervention finds anything to replace, on the finest mesh."""
        level = len(self.subject.modules) - 1
        x = self.data.path(0)[level][0]
        with torch.no_grad(), acting.acting(self.subject, level, 0):
            self.subject.predict(level, x, 0)
        return bool(acting.layers)

    def n(self, level: int) -> int:
        """Cells an axis of a level."""
        return self.subject.meshes[level].n


def gather(
    subject: Subject, data: Sampler, result: Audit, stochastic: bool, step: Tick
) -> Evidence:
    """Run the module once a level and probe every layer with what it was given there."""
    layers = by_layer(subject.parameters)
    sample = result.samples["whole"]
    paths = min(PATHS, sample.replicates)
    squares = {
        name: np.sum(result.samples[name].gaps[:paths] ** 2, axis=-1) for name in subject.parameters
    }
    base = Gaps(squares, result.hierarchy.h[1:])
    evidence = Evidence(subject, data, result, stochastic, step, layers, base, paths)
    levels, dim = len(subject.modules), data.hierarchy.dim
    pairs = data.path(0)
    for level in range(levels):
        calls = trace(subject, level, pairs[level][0], 0)
        for layer, call in calls.items():
            _probe(evidence, layer, call, level, dim)
        if level == 0 and stochastic:
            evidence.noisy = _noisy(calls, trace(subject, 0, pairs[0][0], EXPERIMENT_KEY))
        del calls
    return evidence


def _probe(evidence: Evidence, layer: str, call: Call, level: int, dim: int) -> None:
    levels = len(evidence.subject.modules)
    fields = call.fields(dim)
    if fields is None:
        return
    x, made = fields
    evidence.sizes.setdefault(layer, []).append((tuple(x.shape[2:]), tuple(made.shape[2:])))
    if layer not in evidence.layers and layer != ROOT:
        return
    power = input_power(call, dim)
    if power is not None:
        evidence.powers.setdefault(layer, []).append(power)
    if level == 1:
        _safely(evidence.shifts, layer, lambda: shift_error(call, dim))
    if level >= levels - 2 and layer in evidence.layers:
        found: dict[str, Response] = {}
        _safely(found, layer, lambda: response(call, dim))
        evidence.responses.setdefault(layer, []).extend(found.values())


def _safely(into: dict[str, Any], layer: str, probe: Callable[[], Any]) -> None:
    """Keep what a probe finds; a layer that cannot be called alone is not probed."""
    try:
        found = probe()
    except Exception:  # each layer has errors of its own
        return
    if found is not None:
        into[layer] = found


def _noisy(first: dict[str, Call], second: dict[str, Call]) -> dict[str, float]:
    """Layers whose outputs differ though their inputs do not."""
    found = {}
    for layer, a in first.items():
        b = second.get(layer)
        if b is None or layer == ROOT or not _tensors(a, b):
            continue
        if a.args[0].shape == b.args[0].shape and torch.equal(a.args[0], b.args[0]):
            change = float(torch.linalg.vector_norm((b.output - a.output).double()))
            scale = float(torch.linalg.vector_norm(a.output.double()))
            if change > 0:
                found[layer] = change / scale if scale else np.inf
    return found


def _tensors(*calls: Call) -> bool:
    return all(
        c.args and isinstance(c.args[0], torch.Tensor) and isinstance(c.output, torch.Tensor)
        for c in calls
    )
