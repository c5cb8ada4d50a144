"""Words of the command line: signals, targets, noises, restrictions, kernels and settings."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gradconv.errors import InputError
from gradconv.kernels import KernelOptions
from gradconv.mesh import Mesh, MeshHierarchy
from gradconv.problem import SETTINGS
from gradconv.restriction import BOUNDARIES, ROUTES
from gradconv.testing.strategies.registered import choices, simplest_word
from gradconv.testing.strategies.values import constant


def _meshes(place: Mesh | MeshHierarchy | None) -> tuple[Mesh, ...]:
    if place is None:
        return ()
    return place.meshes if isinstance(place, MeshHierarchy) else (place,)


Place = Mesh | MeshHierarchy | st.SearchStrategy[Any] | None
Word = str | st.SearchStrategy[str] | None


@st.composite
def signals(
    draw: st.DrawFn,
    /,
    name: Word = None,
    *,
    mesh: Place = None,
    channels: int | st.SearchStrategy[int] = 1,
    refinable: bool | None = None,
    extreme: bool = False,
    **fields: Any,
) -> str:
    """Texts of noise-free signals, such as ``"sobolev:3"``.

    Every argument may be a value or a strategy, as in all strategies of this package.

    Parameters
    ----------
    name : str, optional
        A registered signal; by default any that needs no file.
    mesh : Mesh or MeshHierarchy, optional
        Where the signal must be resolved: images have one dimension, bands must stay below the
        Nyquist mode. By default nothing is required of it.
    channels : int
        Number of channels that the signal must have, 1 to 64.
    refinable : bool, optional
        Whether the signal exists on every mesh, which the refinement setting needs; None for
        either.
    extreme : bool
        Whether to reach for the sizes 1e-9 and 1e6 where the signal accepts them.
    **fields
        Fields of the signal, such as ``modes=3``; signals without them are not drawn.

    Returns
    -------
    SearchStrategy of str
        Shrinks to ``"sobolev:3"``.

    Raises
    ------
    InputError
        When drawn from: if the name is not registered or no value is allowed by the arguments.

    Examples
    --------
    >>> from gradconv.testing import strategies as gst
    >>> narrow = gst.signals("band-limited", modes=gst.round_numbers(1, 3).map(int))
    """
    place, count = draw(constant(mesh)), draw(constant(channels))
    wanted = draw(constant(refinable))

    def check(signal: Any) -> None:
        if wanted is not None and signal.refinable != wanted:
            raise InputError(f"`signal` must have refinable={wanted}; got {signal.spec}")
        for one in _meshes(place):
            signal.check(one, count)

    return draw(choices("signal", name, check, extreme, fields))


@st.composite
def targets(
    draw: st.DrawFn,
    /,
    name: Word = None,
    *,
    mesh: Place = None,
    extreme: bool = False,
    **fields: Any,
) -> str:
    """Texts of targets, such as ``"shift:0.1:1"``.

    Parameters
    ----------
    name : str, optional
        A registered target; by default any.
    mesh : Mesh or MeshHierarchy, optional
        Where the target must be computable: its axis must exist, and an inverse blur may not
        drown the data in rounding errors. By default nothing is required.
    extreme : bool
        Whether to reach for the sizes 1e-9 and 1e6 where the target accepts them.
    **fields
        Fields of the target, such as ``axis=0``; targets without them are not drawn.

    Returns
    -------
    SearchStrategy of str
        Shrinks to ``"identity"``.

    Raises
    ------
    InputError
        When drawn from: if the name is not registered or no value is allowed by the arguments.
    """
    place = draw(constant(mesh))

    def check(target: Any) -> None:
        for one in _meshes(place):
            target.check(one)

    return draw(choices("target", name, check, extreme, fields))


@st.composite
def noises(
    draw: st.DrawFn,
    /,
    name: Word = None,
    *,
    signal_range: tuple[float, float] | st.SearchStrategy[tuple[float, float]] | None = None,
    gaussian: bool | st.SearchStrategy[bool] | None = None,
    extreme: bool = False,
    **fields: Any,
) -> str:
    """Texts of noises, such as ``"pixel:0.5"``.

    Parameters
    ----------
    name : str, optional
        A registered noise; by default any.
    signal_range : tuple of float, optional
        Least and largest value of the signal that must be able to carry the noise (Poisson noise
        needs one that is nowhere negative); by default nothing is required.
    gaussian : bool, optional
        Whether the noise is Gaussian; None for either.
    extreme : bool
        Whether to reach for the sizes 1e-9 and 1e6 where the noise accepts them.
    **fields
        Fields of the noise, such as ``sigma=0.3``; noises without them are not drawn.

    Returns
    -------
    SearchStrategy of str
        Shrinks to ``"none"``.

    Raises
    ------
    InputError
        When drawn from: if the name is not registered or no value is allowed by the arguments.
    """
    carried, normal = draw(constant(signal_range)), draw(constant(gaussian))

    def check(noise: Any) -> None:
        if normal is not None and noise.gaussian != normal:
            raise InputError(f"`noise` must have gaussian={normal}; got {noise.spec}")
        if carried is not None:
            noise.check(*carried)

    return draw(choices("noise", name, check, extreme, fields))


@st.composite
def restrictions(
    draw: st.DrawFn,
    /,
    name: Word = None,
    *,
    boundary: Word = None,
    nested: bool | st.SearchStrategy[bool] | None = None,
    mesh: Place = None,
) -> str:
    """Names of restrictions, such as ``"average"``.

    Parameters
    ----------
    name : str, optional
        A registered restriction; by default any.
    boundary : {"periodic", "zero", "reflecting"}, optional
        The boundary that it must work with; by default nothing is required.
    nested : bool, optional
        Whether chained steps equal the direct step; None for either.
    mesh : Mesh or MeshHierarchy, optional
        The mesh that it must be able to restrict (a hierarchy: its finest).

    Returns
    -------
    SearchStrategy of str
        Shrinks to ``"average"``.

    Raises
    ------
    InputError
        When drawn from: if the name is not registered or not allowed by the arguments.
    """
    wall, chained, place = (draw(constant(value)) for value in (boundary, nested, mesh))

    def check(restriction: Any) -> None:
        if wall is not None:
            restriction.check_boundary(wall)
        if chained is not None and restriction.nested != chained:
            raise InputError(f"`restriction` must have nested={chained}; got {restriction.name}")
        for one in _meshes(place)[-1:]:
            restriction.check_size(one.n)

    return draw(choices("restriction", name, check))


@st.composite
def kernels(
    draw: st.DrawFn,
    /,
    name: Word = None,
    *,
    mesh: Place = None,
    boundary: str | st.SearchStrategy[str] = "periodic",
    extreme: bool = False,
    **fields: Any,
) -> str:
    """Texts of kernel families, such as ``"stencil:5"``.

    Parameters
    ----------
    name : str, optional
        A registered kernel; by default any.
    mesh : Mesh or MeshHierarchy, optional
        Where the kernel must have a meaning (a hierarchy: its coarsest): a Fourier layer needs
        more cells than twice its modes. By default nothing is required.
    boundary : {"periodic", "zero", "reflecting"}
        What the convolution sees outside the box, where a mesh is given.
    extreme : bool
        Whether to reach for the sizes 1e-9 and 1e6 where the kernel accepts them.
    **fields
        Fields of the family, such as ``size=5``; families without them are not drawn.

    Returns
    -------
    SearchStrategy of str
        Shrinks to ``"stencil:3"``.

    Raises
    ------
    InputError
        When drawn from: if the name is not registered or no value is allowed by the arguments.
    """
    place, wall = draw(constant(mesh)), draw(constant(boundary))

    def check(family: Any) -> None:
        for one in _meshes(place)[:1]:
            family.build(one.dim, 1, KernelOptions()).check(one.h, wall)

    return draw(choices("kernel", name, check, extreme, fields))


def settings() -> st.SearchStrategy[str]:
    """Settings of a problem; shrinks to ``"coarsening"``."""
    return _words("setting", SETTINGS)


def boundaries() -> st.SearchStrategy[str]:
    """Boundaries; shrinks to ``"periodic"``."""
    return _words("boundary", BOUNDARIES)


def routes() -> st.SearchStrategy[str]:
    """Routes of coarsening; shrinks to ``"chain"``."""
    return _words("route", ROUTES)


def _words(argument: str, known: tuple[str, ...]) -> st.SearchStrategy[str]:
    first = simplest_word(argument)
    return st.sampled_from(sorted(known, key=lambda word: (word != first, word)))
