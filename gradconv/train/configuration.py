"""All choices of a training run: the options of the command line, a TOML file, or both."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from gradconv.errors import InputError, check_gib, check_whole, shortened, unknown_name
from gradconv.images import IMAGES
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.costs.plan import check_wholes
from gradconv.nn.paddings import PADDINGS
from gradconv.restriction import RESTRICTIONS, ROUTES
from gradconv.samplers.noisy import DRAWN
from gradconv.train.budget import Budget
from gradconv.train.engine import check_engine
from gradconv.train.networks import CONVOLUTIONS, NETWORKS, check_sizes
from gradconv.train.optimisers import check_optimiser
from gradconv.train.strategies import STRATEGIES, Schedule, Stopping
from gradconv.train.tasks import TASKS, Task

# How a result is computed and kept, not what it is: left out of the identity of a run, so that it
# may go on elsewhere.
MANNER = (
    "device",
    "processes",
    "nodes",
    "threads",
    "prefetch",
    "memory",
    "checkpoint_every",
    "log_every",
)
NORMS = ("group", "instance", "batch")
LARGEST_SIZE = 2**14
LONGEST = 10**9


@dataclass(frozen=True)
class TrainingConfig:
    """All choices of ``gradconv train``.

    Parameters
    ----------
    task : str
        "denoise", "deblur", "inpaint" or "superres", with parameters as in ``denoise:0.2``.
    network : str
        "resnet", "unet" or "espcn"; another word where a module was handed in.
    conv : {"standard", "mfc"}
        Convolutions of the network.
    strategy : str
        "single", "multiscale", "full-multiscale", "progressive", "random-crops", "multigrid".
    data : str
        "photographs", "folder:PATH", "corpus", "cifar10:PATH", "stl10:PATH", "celeba:PATH" or
        "urban100:PATH".
    size : int
        Cells an axis of the finest mesh, that of the targets.
    levels : int
        Levels; each halves the cells of the one before.
    channels : {1, 3}
        Channels of the images.
    width, layers : int, optional
        Channels and depth of the network, as in `gradconv.train.networks.build_network`.
    mesh_free_widths : tuple of float, optional
        Range of the widths of mesh-free kernels at the start, in units of the box.
    norm : str, optional
        Normalisation: "group", "instance" or "batch".
    padding : {"periodic", "reflect", "zero"}
        What lies outside the box.
    counts : tuple of int, optional
        Samples of each term a step, coarse to fine; default 16 on the finest level, doubling.
    steps : int
        Steps on the finest mesh.
    stages : tuple of int, optional
        Steps of each stage, coarse to fine; default `steps` on the coarsest, halving.
    batch : int, optional
        Samples a step on one scale; default the sum of `counts`.
    stop : tuple of (int, float), optional
        Window and tolerance by which a leg ends early, once its loss has stalled.
    budget : str, optional
        ``work:28750``, ``flops:1e13`` or ``seconds:60``: the plan's steps are scaled to it.
    drawn : {"law", "finest", "level"}
        Where noise is drawn; see `gradconv.samplers.NoisySampler`. By default each level's data
        have the law of restricted ones, with the noise of "denoise" and "superres" drawn on the
        level itself where averaging restricts it.
    restriction, route : str
        Fine → coarse map.
    optimiser : str
        "adam", "adamw", "sgd", "nadam", "rmsprop" or "adagrad".
    lr, weight_decay, momentum : float
        Of the optimiser; `momentum` is of "sgd".
    schedule : str
        "constant", "cosine", "linear", "onecycle" or "step" over all steps of the plan.
    restarts : bool
        Whether the schedule, warm-up included, begins anew with each leg of the plan.
    warmup : int
        First steps over which the learning rate rises to `lr`.
    clip : float, optional
        Largest norm of the gradient.
    accumulation : int
        Estimates of the gradient a step of the optimiser.
    microbatch : int, optional
        Samples of a pass at most on the finest mesh, and as many cells on others.
    precision : {"32", "bf16", "64"}
        Of weights and passes.
    validate_every : int
        Steps between validations; 0: once a leg and at the end.
    validation_tiles, test_tiles : int
        Tiles they use at most.
    moments_every : int
        Steps between measurements of each term's gradient norm and variance; 0: never.
    moments_samples : int
        Samples a term of such a measurement.
    seed : int
        Of weights, tiles, noise.
    device, processes, nodes, threads, prefetch, memory, checkpoint_every, log_every
        How it is computed. `threads` of torch, 0 for torch's own choice; `prefetch`: draw the next
        step's samples meanwhile, None on a GPU only; `memory` in GiB for one pass, None for what
        is free; `checkpoint_every` and `log_every` in steps.

    Raises
    ------
    InputError
        If a choice breaks a rule.
    """

    task: str = "denoise"
    network: str = "resnet"
    conv: str = "standard"
    strategy: str = "single"
    data: str = "photographs"
    size: int = 64
    levels: int = 4
    channels: int = 1
    width: int | None = None
    layers: int | None = None
    mesh_free_widths: tuple[float, float] | None = None
    norm: str | None = None
    padding: str = "periodic"
    counts: tuple[int, ...] | None = None
    steps: int = 200
    stages: tuple[int, ...] | None = None
    batch: int | None = None
    stop: tuple[int, float] | None = None
    budget: str | None = None
    drawn: str = "law"
    restriction: str = "average"
    route: str = "chain"
    optimiser: str = "adam"
    lr: float = 2e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "constant"
    restarts: bool = False
    warmup: int = 0
    clip: float | None = None
    accumulation: int = 1
    microbatch: int | None = None
    precision: str = "32"
    validate_every: int = 0
    validation_tiles: int = 64
    test_tiles: int = 64
    moments_every: int = 0
    moments_samples: int = 8
    seed: int = 0
    device: str = "auto"
    processes: int = 1
    nodes: int = 1
    threads: int = 0
    prefetch: bool | None = None
    memory: float | None = None
    checkpoint_every: int = 100
    log_every: int = 1

    def __post_init__(self) -> None:
        # canonical specs, so that two spellings of a run are one run
        for name, registry in (("task", TASKS), ("strategy", STRATEGIES), ("data", IMAGES)):
            self._set(name, registry.parse(getattr(self, name)).spec)
        check_engine(self.device, self.precision, self.processes, self.nodes)
        self._check_mesh()
        self._check_numbers()
        self._check_names()
        RESTRICTIONS.parse(self.restriction)
        check_optimiser(self.optimiser, self.schedule)
        if self.budget is not None:
            Budget.parse(self.budget)
        if self.network in NETWORKS:
            check_sizes(self.network, self.made_task, self.layers, self.hierarchy.sizes)
        _ = self.plan_schedule

    def _check_mesh(self) -> None:
        check_whole("channels", self.channels, 1, 3)
        if self.channels == 2:
            raise InputError("`channels` must be 1 or 3; got 2")
        check_whole("size", self.size, 4, LARGEST_SIZE)
        check_whole("levels", self.levels, 2, 12)
        divisor = 2 ** (self.levels - 1)
        if self.size % divisor or self.size // divisor < 2:
            raise InputError(
                f"`size` must be divisible by {divisor} and at least {2 * divisor}, so that it can "
                f"be halved to {self.levels} levels; got {self.size}"
            )

    def _check_names(self) -> None:
        known = {"conv": CONVOLUTIONS, "padding": PADDINGS, "drawn": DRAWN, "route": ROUTES}
        if self.norm is not None:
            known["norm"] = NORMS
        for name, names in known.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in names:
                raise unknown_name(name, value, names)
        if not isinstance(self.network, str) or not self.network.strip():
            raise unknown_name("network", self.network, NETWORKS)

    def _check_numbers(self) -> None:
        whole = {
            "steps": (1, LONGEST),
            "accumulation": (1, 10**6),
            "warmup": (0, LONGEST),
            "validate_every": (0, LONGEST),
            "validation_tiles": (1, 10**6),
            "test_tiles": (1, 10**6),
            "moments_every": (0, LONGEST),
            "moments_samples": (2, 10**6),
            "seed": (0, 2**31 - 1),
            "threads": (0, 1024),
            "checkpoint_every": (1, LONGEST),
            "log_every": (1, LONGEST),
        }
        for name, (least, most) in whole.items():
            check_whole(name, getattr(self, name), least, most)
        for name in ("width", "layers", "batch", "microbatch"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1, 10**6)
                whole[name] = (1, 10**6)
        for name in (*whole, "size", "levels", "channels", "processes", "nodes"):
            self._set(name, int(getattr(self, name)))
        for name in ("counts", "stages"):
            if getattr(self, name) is not None:
                self._set(name, check_wholes(name, getattr(self, name), self.levels))
        self._set("lr", _real("lr", self.lr, positive=True))
        self._set("weight_decay", _real("weight_decay", self.weight_decay))
        self._set("momentum", _real("momentum", self.momentum, below=1.0))
        if self.clip is not None:
            self._set("clip", _real("clip", self.clip, positive=True))
        if self.mesh_free_widths is not None:
            self._set("mesh_free_widths", _range("mesh_free_widths", self.mesh_free_widths))
        if self.stop is not None:
            self._set("stop", _stop(self.stop))
        if self.memory is not None:
            check_gib(self.memory)
        for name in ("prefetch", "restarts"):
            value = getattr(self, name)
            if not isinstance(value, bool) and (value is not None or name == "restarts"):
                raise InputError(f"`{name}` must be true or false; got {shortened(value)}")

    def _set(self, name: str, value: Any) -> None:
        """Keep a value in the one form that its kind has: 1.0 for a rate of 1, no numpy number."""
        object.__setattr__(self, name, value)

    @property
    def made_task(self) -> Task:
        """The task as a value."""
        return TASKS.parse(self.task)

    @property
    def hierarchy(self) -> MeshHierarchy:
        """Meshes of the targets."""
        sizes = tuple(self.size // 2**j for j in reversed(range(self.levels)))
        return MeshHierarchy(2, sizes)

    @property
    def plan_schedule(self) -> Schedule:
        """Numbers that strategies make their legs of."""
        stop = None
        if self.stop is not None:
            stop = Stopping(*self.stop)
        return Schedule.of_paper(
            self.levels,
            dim=2,
            counts=self.counts,
            steps=self.steps,
            stages=self.stages,
            batch=self.batch,
            stopping=stop,
        )

    def identity(self) -> dict[str, Any]:
        """Everything that the result depends on, as JSON values."""
        values = dataclasses.asdict(self)
        return {k: _plain(v) for k, v in values.items() if k not in MANNER}

    @classmethod
    def read(cls, path: Path | None, given: dict[str, Any]) -> TrainingConfig:
        """Choices of a TOML file, if there is one, overridden by those given.

        Raises
        ------
        InputError
            If the file cannot be read, or a name or a value in it is wrong.
        """
        values: dict[str, Any] = {} if path is None else _read_toml(path)
        known = {f.name: f for f in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise unknown_name(f"config {path}", name, known)
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**{**values, **given})


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"`config` must be readable; got {path} ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"`config` must be TOML; got {path} ({error})") from None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _real(
    name: str, value: object, *, positive: bool = False, below: float = sys.float_info.max
) -> float:
    real = isinstance(value, Real) and not isinstance(value, bool)
    # false for NaN, and compared before it is converted: whole numbers may be too large for that
    if not real or not 0 <= value < below or (positive and not value):  # type: ignore[operator]
        rule = "positive and finite" if positive else f"at least 0 and below {below:g}"
        raise InputError(f"`{name}` must be {rule}; got {shortened(value)}")
    return float(value)  # type: ignore[arg-type]


def _pair(name: str, value: object, rule: str) -> tuple[Any, Any]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise InputError(f"`{name}` must be {rule}; got {shortened(value)}")
    return value[0], value[1]


def _range(name: str, value: object) -> tuple[float, float]:
    least, most = _pair(name, value, "the least and the greatest width")
    found = _real(name, least, positive=True), _real(name, most, positive=True)
    if found[0] > found[1]:
        raise InputError(f"`{name}` must not fall; got {shortened(value)}")
    return found


def _stop(value: object) -> tuple[int, float]:
    window, tolerance = _pair("stop", value, "a window and a tolerance")
    try:
        made = Stopping(window, tolerance)
    except InputError as error:
        raise InputError(f"`stop`: {error}") from None
    return int(made.window), float(made.tolerance)
