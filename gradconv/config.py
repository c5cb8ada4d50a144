"""The configuration of a run: the options of the command line, a TOML file, or both."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from gradconv.errors import InputError, check_confidence, check_gib, shortened, unknown_name
from gradconv.fields import SIGNALS
from gradconv.kernels import KERNELS, KernelFamily, KernelOptions
from gradconv.mesh import MeshHierarchy, read_levels
from gradconv.parallel import check_workers
from gradconv.problem import Problem
from gradconv.sweeps import check_sweep

# Options of which several values make a product, in the order in which results are listed.
AXES = (
    "dim",
    "signal",
    "target",
    "noise",
    "setting",
    "boundary",
    "route",
    "restriction",
    "kernel",
)
# Options that change how a result is computed, not what it is: left out of the identity of a run.
MANNER = ("memory", "threads", "workers", "scheduler")
LARGEST_PRODUCT = 10_000


@dataclass(frozen=True)
class SweepConfig:
    """All choices of ``gradconv sweep``.

    Parameters
    ----------
    kernel, signal, target, noise, restriction, setting, boundary, route : tuple of str
        Values to sweep; the product of all is run.
    dim : tuple of int
        Dimensions to sweep.
    levels : str
        ``"a:b"``: meshes n = 2**a … 2**b.
    replicates, seed, dtype, device, memory, threads, workers, scheduler, channels, confidence
        As in `gradconv.sweep`; memory in GiB.
    weights, diffusivity, drift, amplitude : number or nested list, optional
        Kernel parameters, given to the kernels that have them.
    """

    kernel: tuple[str, ...] = ("stencil", "mfc")
    signal: tuple[str, ...] = ("sobolev:3",)
    target: tuple[str, ...] = ("identity",)
    noise: tuple[str, ...] = ("pixel:0.5",)
    setting: tuple[str, ...] = ("coarsening",)
    restriction: tuple[str, ...] = ("average", "injection")
    dim: tuple[int, ...] = (2,)
    boundary: tuple[str, ...] = ("periodic",)
    route: tuple[str, ...] = ("chain",)
    channels: int = 1
    levels: str = "4:9"
    replicates: int = 64
    seed: int = 0
    dtype: str = "float64"
    device: str = "cpu"
    memory: float = 4.0
    threads: int = 1
    workers: int = 1
    scheduler: str | None = None
    confidence: float = 0.95
    weights: Any = None
    diffusivity: Any = None
    drift: Any = None
    amplitude: Any = None
    _options: KernelOptions = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in AXES:
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)):
                values = (values,)
            kind, word = (int, "whole numbers") if name == "dim" else (str, "text")
            for value in values:
                if isinstance(value, bool) or not isinstance(value, kind):
                    raise InputError(f"`{name}` must hold {word}; got {shortened(value)}")
            if not values:
                raise InputError(f"`{name}` must have at least one value; got none")
            if len(set(values)) < len(values):
                raise InputError(f"`{name}` must not repeat a value; got {shortened(values)}")
            object.__setattr__(self, name, tuple(values))
        for name in ("levels", "dtype", "device"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"`{name}` must be text; got {shortened(getattr(self, name))}")
        check_gib(self.memory)
        check_confidence(self.confidence)
        check_workers(self.workers, self.scheduler, self.threads)
        parameters = {k: getattr(self, k) for k in vars(KernelOptions())}
        object.__setattr__(self, "_options", KernelOptions(**parameters))

    def hierarchy(self, dim: int) -> MeshHierarchy:
        """Meshes of the run in one dimension."""
        return MeshHierarchy.powers_of_two(dim, *read_levels(self.levels, fit=True))

    @property
    def sweep_arguments(self) -> dict[str, Any]:
        """Arguments of `gradconv.sweep` that all cells share, but for its workers."""
        names = ("replicates", "seed", "dtype", "device", "threads", "confidence", "memory")
        return {name: getattr(self, name) for name in names}

    def problems(self) -> list[tuple[Problem, MeshHierarchy]]:
        """Every cell of the product, checked against its hierarchy; nothing is computed yet.

        Raises
        ------
        InputError
            If any cell of the product is impossible.
        """
        self._check_options_used()
        values = [getattr(self, axis) for axis in AXES]
        count = 1
        for choices in values:
            count *= len(choices)
        if count > LARGEST_PRODUCT:
            raise InputError(
                f"the product of all options may have {LARGEST_PRODUCT} cells; got {count}"
            )
        cells = []
        for combination in product(*values):
            chosen = dict(zip(AXES, combination, strict=True))
            family = KERNELS.parse(chosen["kernel"])
            options = KernelOptions(**{o: getattr(self, o) for o in family.options})
            problem = Problem(channels=self.channels, options=options, **chosen)
            hierarchy = self.hierarchy(problem.dim)
            check_sweep(problem, hierarchy, **self.sweep_arguments)
            cells.append((problem, hierarchy))
        return cells

    def _check_options_used(self) -> None:
        families: list[KernelFamily] = [KERNELS.parse(k) for k in self.kernel]
        for option in self._options.given():
            if not any(option in family.options for family in families):
                owners = [n for n in KERNELS.names if option in KERNELS[n].options]
                raise InputError(
                    f"`{option}` needs kernel {' or '.join(owners)}; got {', '.join(self.kernel)}"
                )

    def identity(self) -> dict[str, Any]:
        """What the results are of, as JSON values: all options but how they are computed.

        Signals read from files add a digest of what was read, under ``data``.
        """
        options = {
            name: _plain(getattr(self, name)) for name in option_names() if name not in MANNER
        }
        digests = {text: SIGNALS.parse(text).fingerprint() for text in self.signal}
        read = {text: digest for text, digest in digests.items() if digest}
        return {**options, "data": read} if read else options


def read_toml(path: Path) -> dict[str, Any]:
    """Read the values of a TOML file, refusing unknown keys.

    Parameters
    ----------
    path : Path
        The file; its keys are the fields of `SweepConfig`.

    Returns
    -------
    dict
        Values by name, to be overridden by flags.

    Raises
    ------
    InputError
        If the file cannot be read, is no TOML, or has a key that is no option.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"`config` must be a readable file; got {path} ({error.strerror})"
        ) from None
    except (ValueError, RecursionError) as error:  # syntax, encoding, size and depth
        reason = (str(error).splitlines() or [""])[0][:120]
        raise InputError(f"`config` must be TOML; got {path} ({reason})") from None
    known = option_names()
    for key in values:
        if key not in known:
            raise unknown_name(f"config key in {path.name}", key, known)
    return values


def option_names() -> list[str]:
    """Names of all options."""
    return [f.name for f in dataclasses.fields(SweepConfig) if not f.name.startswith("_")]


def parse_parameter(argument: str, text: str) -> Any:
    """Read a kernel parameter from the command line: a number, ``0.1,0.2`` or a JSON array."""
    try:
        value = json.loads(text if text.lstrip().startswith("[") else f"[{text}]")
    except (ValueError, RecursionError):
        value = None
    if value is None or not _all_numbers(value):
        raise InputError(
            f"`{argument}` must be a number, numbers with commas, or a JSON array of numbers; "
            f"got {shortened(text)}"
        )
    if not text.lstrip().startswith("[") and len(value) == 1:
        return value[0]
    return value


def _all_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(_all_numbers(v) for v in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value
