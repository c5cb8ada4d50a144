"""Is the module in the right mode, and does anything in it couple samples or levels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from gradconv.audit.estimator import causes
from gradconv.audit.estimator.calls import Arguments, Call, Step
from gradconv.audit.estimator.causes import STEP
from gradconv.audit.estimator.keeping import Keeper
from gradconv.audit.estimator.terms import Structure
from gradconv.audit.findings import Finding
from gradconv.nn.random_state import start_random_state

CHANGE = 1e-4  # relative change of an output that is not rounding
SAMPLES = 8


class Experiments:
    """The module called again on recorded inputs; its state is put back after each call.

    Parameters
    ----------
    module : Module
        The module.
    keeper : Keeper
        Puts its state back.
    arguments : dict of int to Arguments
        Of the first step's calls, by number.
    structure : Structure
        The terms.
    seed : int
        Seed of the random states.
    """

    def __init__(
        self,
        module: nn.Module,
        keeper: Keeper,
        arguments: dict[int, Arguments],
        structure: Structure,
        seed: int,
    ) -> None:
        self.module, self.keeper, self.seed = module, keeper, seed
        calls = [c for c in structure.steps[0].calls if c.reached]
        # many samples, and among those few cells
        self.subject: Call | None = max(calls, key=lambda c: (c.batch > 1, -c.n), default=None)
        self.arguments = arguments

    def output(self, x: torch.Tensor, training: bool, key: int) -> torch.Tensor | None:
        """Output in a mode, from one of several random states; None where the module fails."""
        assert self.subject is not None
        device = next(self.module.parameters()).device
        start_random_state(self.seed, 2**20, key)
        self.module.train(training)
        try:
            with torch.no_grad():
                made = self.arguments[self.subject.number].call(self.module, x.to(device))
            return None if made is None else made.detach().cpu().double()
        except Exception:  # the module may not take the changed input
            return None
        finally:
            self.keeper.put_state_back()

    def change(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        modes: tuple[bool, bool],
        keys: tuple[int, int],
        first: bool = False,
    ) -> float:
        """Relative difference of two outputs, of all samples or of the first."""
        made = [self.output(v, mode, key) for v, mode, key in zip((x, y), modes, keys, strict=True)]
        if made[0] is None or made[1] is None or made[0].shape != made[1].shape:
            return 0.0
        a, b = (m[:1] if first else m for m in (made[0], made[1]))
        scale = float(a.norm())
        return float((a - b).norm()) / scale if scale else float((a - b).norm())


def check_model(structure: Structure, experiments: Experiments) -> tuple[list[Finding], list[str]]:
    """Check modes, batch statistics and random layers.

    Returns
    -------
    findings, notes
        What is wrong, and what could not be checked.
    """
    call = experiments.subject
    if call is None:
        return [], []
    x = call.input
    found = _evaluation(structure, experiments, x)
    calls = [c for s in structure.steps for c in s.calls if c.reached]
    training = any(c.training for c in calls)
    notes = []
    if call.batch > 1:
        others = torch.cat([x[:1], 2.0 * x[1:].flip(0) + x[:1].abs().mean()])
        change = experiments.change(x, others, (training, training), (0, 0), first=True)
        if change > CHANGE:
            found.append(
                Finding(
                    STEP,
                    causes.BATCH_STATISTICS,
                    f"the output of a sample changes by {change:.2g} of its norm with the other "
                    f"samples of its batch{_named(experiments.module, _BatchNorm)}: fine and "
                    "coarse role of a level have other batches, and the sum does not telescope",
                    change,
                    "breaks",
                )
            )
    else:
        notes.append("every call has one sample: batch statistics were not looked for")
    change = experiments.change(x, x, (training, training), (1, 2))
    if change > CHANGE:
        found += _random_layers(structure, experiments.module, change)
    return found, notes


def _evaluation(structure: Structure, experiments: Experiments, x: torch.Tensor) -> list[Finding]:
    def off(step: Step) -> list[bool]:
        return [not c.training for c in step.calls if c.reached]

    called = [flag for step in structure.steps for flag in off(step)]
    left = sum(s.training_before and not s.training_after for s in structure.steps)
    if not any(called) and not left:
        return []
    change = experiments.change(x, x, (True, False), (0, 0))
    matters = change > CHANGE
    if any(called):
        share = sum(called) / len(called)
        seen = f"{share:.0%} of the calls that receive gradients run in evaluation mode"
    else:
        share = left / len(structure.steps)
        seen = f"{share:.0%} of the steps leave the module in evaluation mode for the next one"
    tail = (
        f"which changes this module's output by {change:.2g} of its norm"
        if matters
        else "which changes nothing for this module, and would with dropout or batch statistics"
    )
    severity = "breaks" if matters else "latent"
    return [Finding(STEP, causes.EVALUATION, f"{seen}, {tail}", share, severity)]


def _random_layers(structure: Structure, module: nn.Module, change: float) -> list[Finding]:
    """Random layers: shared within a term, new in every step."""
    found = []
    apart: list[str] = []
    for fine, coarse in structure.pairs():
        steps = sorted(set(fine.calls) & set(coarse.calls))
        states = [
            [{c.random_state for c in role.calls[s]} for s in steps] for role in (fine, coarse)
        ]
        if all(not (a & b) for a, b in zip(*states, strict=True)):
            apart.append(structure.name(fine.term))
    layers = _named(module, _DropoutNd)
    if apart:
        found.append(
            Finding(
                ", ".join(apart),
                causes.RANDOM_LAYERS,
                f"the module's own randomness changes its output by {change:.2g} of its norm"
                f"{layers}, and 0 of the coarse calls start from the random state of their fine "
                "call: the difference keeps the variance of both",
                change,
                "limits",
            )
        )
    same = _repeated_states(structure)
    if same > 0.5:
        found.append(
            Finding(
                STEP,
                causes.SEED,
                f"{same:.0%} of the calls start from the random state of the step before{layers}: "
                "the module's own randomness is the same in every step",
                same,
                "breaks",
            )
        )
    return found


def _repeated_states(structure: Structure) -> float:
    """Share of calls that start from the random state of the same call a step before."""
    hits = [
        a.random_state == b.random_state
        for first, second in zip(structure.steps, structure.steps[1:], strict=False)
        for a, b in zip(first.calls, second.calls, strict=False)
        if a.reached and b.reached
    ]
    return sum(hits) / len(hits) if hits else 0.0


def _named(module: nn.Module, kind: type) -> str:
    names = [
        f"{n or 'module'}: {type(m).__name__}"
        for n, m in module.named_modules()
        if isinstance(m, kind)
    ]
    return f" ({', '.join(names[:3])})" if names else ""
