"""Devices, precision and processes of a training run, by lightning-fabric.

Every process has the whole module. It takes its share of each term's samples, and one sum over
processes a step puts the gradient together.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from gradconv.backend import Backend
from gradconv.errors import InputError, check_whole, shortened, unknown_name

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "64": "64-true"}
DEVICES = ("auto", "cpu", "cuda")
TORCHRUN = "LOCAL_WORLD_SIZE"  # set by torchrun in each process that it starts


class Engine:
    """Where a run computes, how precisely, and beside whom.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" takes a GPU if there is one.
    precision : {"32", "bf16", "64"}
        "bf16": weights in single precision, forward passes in bfloat16 where torch's autocast
        does so.
    processes : int
        Processes on this machine, one a GPU; under ``torchrun`` its own number counts.
    nodes : int
        Machines, one ``torchrun`` each.

    Raises
    ------
    InputError
        If an argument breaks a rule, or a GPU is asked for and absent.
    """

    def __init__(
        self, device: str = "auto", precision: str = "32", processes: int = 1, nodes: int = 1
    ) -> None:
        check_engine(device, precision, processes, nodes)
        fabric = _fabric_class()
        accelerator = device
        if device == "auto":
            accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        by_torchrun = TORCHRUN in os.environ
        if by_torchrun:
            processes = int(os.environ[TORCHRUN])
            nodes = int(os.environ.get("WORLD_SIZE", processes)) // processes
        if accelerator == "cuda" and processes > torch.cuda.device_count():
            raise InputError(
                f"`processes` must be at most the GPUs of this machine, "
                f"{torch.cuda.device_count()}; got {processes}"
            )
        self.local = processes  # on this machine
        spread = processes * nodes > 1 or by_torchrun
        self.dtype = torch.float64 if precision == "64" else torch.float32
        self._fabric: Any = fabric(
            accelerator=accelerator,
            devices=processes,
            num_nodes=nodes,
            strategy="ddp" if spread else "auto",
            precision=PRECISIONS[precision],
        )

    def launch(self) -> None:
        """Start the other processes, if there are any: they run the same command from its start."""
        self._fabric.launch()
        if self.world > 1:
            # threads of a group that is left to the interpreter's end may abort the process there
            atexit.register(_leave)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return int(self._fabric.global_rank)

    @property
    def world(self) -> int:
        """Number of processes."""
        return int(self._fabric.world_size)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        found: torch.device = self._fabric.device
        return found

    def autocast(self) -> AbstractContextManager[Any]:
        """Precision of forward passes."""
        context: AbstractContextManager[Any] = self._fabric.autocast()
        return context

    def share(self, count: int, start: int) -> range:
        """Part of `count` numbers that is this process's, as places 0 … count − 1.

        Parameters
        ----------
        count : int
            Samples of a term.
        start : int
            What is left over after an even share goes to processes from this one on, so that it is
            not always the same ones.

        Returns
        -------
        range
        """
        world, rank = self.world, (self.rank - start) % self.world
        even, over = divmod(count, world)
        first = rank * even + min(rank, over)
        return range(first, first + even + (rank < over))

    def add_up(self, parameters: Sequence[nn.Parameter], values: Tensor) -> Tensor:
        """Sum gradients, in place, and some values over the processes; gives the values.

        Parameters
        ----------
        parameters : sequence of Parameter
            Their ``.grad`` becomes the sum; none counts as zeros.
        values : Tensor
            One axis, real.
        """
        if self.world == 1:
            return values
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        kind = grads[0].dtype
        flat = torch.cat([*(g.reshape(-1) for g in grads), values.to(kind)])
        flat = self._fabric.all_reduce(flat, reduce_op="sum")
        sizes = [g.numel() for g in grads]
        *parts, values = flat.split([*sizes, len(values)])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.reshape(parameter.shape).clone()
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process; every process gets the same answer."""
        if self.world == 1:
            return flag
        count = torch.tensor([float(flag)], device=self.device)
        return bool(self._fabric.all_reduce(count, reduce_op="sum") > 0)

    def agreed(self, value: Any) -> Any:
        """Return the leading process's value on every process."""
        return value if self.world == 1 else self._fabric.broadcast(value)

    def wait(self) -> None:
        """Wait for the other processes and for the device."""
        if self.world > 1:
            self._fabric.barrier()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def check_engine(device: str, precision: str, processes: int, nodes: int) -> None:
    """Refuse what no engine can be made of, before anything is loaded.

    Raises
    ------
    InputError
        That names the argument.
    """
    if not isinstance(device, str) or device not in DEVICES:
        raise unknown_name("device", device, DEVICES)
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise InputError(
            f"`precision` must be one of {', '.join(PRECISIONS)}; got {shortened(precision)}"
        )
    check_whole("processes", processes, 1, 1024)
    check_whole("nodes", nodes, 1, 4096)
    if device == "cuda":
        Backend(device="cuda", dtype="float32", library="torch")


def _leave() -> None:
    """Leave the group of processes."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _fabric_class() -> Any:
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise InputError(
            "training needs lightning-fabric: pip install 'gradconv[train]'; "
            f"got {type(error).__name__}: {error}"
        ) from None
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric
