"""What a kind of study declares and does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gradconv.errors import unknown_name
from gradconv.figures import Style
from gradconv.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = dict[str, Any]
Results = Mapping[str, Record]
"""What was measured, by part: JSON values."""


@dataclass(frozen=True)
class Origin:
    """What provenance has to say of a part beside its configuration.

    Parameters
    ----------
    seed : int
        Seed of all that is random.
    device, dtype : str
        Where and how precisely it is computed.
    packages : tuple of str
        Further packages whose versions matter.
    """

    seed: int = 0
    device: str = "cpu"
    dtype: str = "float64"
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workplace:
    """What the measurement of a part is given.

    Parameters
    ----------
    folder : Path
        A folder of the part's own for what it wants to find again after an interruption.
    workers : int
        Processes that may share the work.
    progress : callable
        Called with (work done, all work) as far as the measurement can tell.
    home : Path
        Folder of the study itself, beside which the other studies are.
    origin : dict
        Provenance of the part, as it was before any work.
    """

    folder: Path
    workers: int = 1
    progress: Callable[..., None] = lambda *_: None
    home: Path = Path()
    origin: Record = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFigure:
    """A figure with what stands under it.

    Parameters
    ----------
    name : str
        Short name: that of its files, and its label in LaTeX.
    caption : str
        What is seen, with the formula of the law where one is drawn, in sentences.
    alternative : str
        The result in a sentence, for those who do not see the picture.
    drawing : matplotlib.figure.Figure
        Not attached to any window.
    """

    name: str
    caption: str
    alternative: str
    drawing: Figure = field(repr=False)


class StudyKind(ABC):
    """A kind of study; subclasses register themselves in `KINDS` under their name.

    A study is cut into parts, which are measured, stored and found again one by one.
    """

    name: ClassVar[str]

    def complete(self, choices: Record, home: Path) -> Record:
        """Choices with what a kind has to know of the studies beside its own.

        Parameters
        ----------
        choices : dict
            What the configuration says at one size.
        home : Path
            Folder of the study.

        Returns
        -------
        dict
            As `parts` takes them.

        Raises
        ------
        InputError
            If a study that this one builds on is not there.
        """
        return choices

    @abstractmethod
    def parts(self, choices: Record) -> dict[str, Record]:
        """Configuration of every part by name, checked; nothing is computed yet.

        Parameters
        ----------
        choices : dict
            What the configuration says at one size, and what `complete` adds to it.

        Returns
        -------
        dict
            JSON values; their hash tells whether stored data are of this configuration. Names are
            those of files.

        Raises
        ------
        InputError
            If a choice breaks a rule.
        """

    def require(self, part: Record) -> None:
        """Refuse a part that cannot be measured here, for what is not installed.

        It is asked before any work, of parts that are to be measured; stored ones need nothing.

        Raises
        ------
        InputError
            That says what is missing and how to install it.
        """
        return

    def origin(self, part: Record) -> Origin:
        """Seed, device and precision of a part."""
        names = ("seed", "device", "dtype")
        return Origin(**{name: part[name] for name in names if name in part})

    @abstractmethod
    def measure(self, part: Record, work: Workplace) -> Record:
        """Measure one part.

        Parameters
        ----------
        part : dict
            Its configuration.
        work : Workplace
            Where, by how many processes, and whom to tell.

        Returns
        -------
        dict
            JSON values.
        """

    @abstractmethod
    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        """Figures of stored results; nothing is computed.

        Parameters
        ----------
        results : mapping of str to dict
            What was measured, by part.
        style : Style
            Sizes and fonts.
        """

    def tables(self, results: Results) -> list[Table]:
        """Tables of stored results."""
        return []

    @abstractmethod
    def summary(self, results: Results) -> list[str]:
        """What was found, in sentences whose numbers are those of the results."""


class Kinds:
    """Registered kinds of study, by name."""

    def __init__(self) -> None:
        self._kinds: dict[str, StudyKind] = {}

    def register(self, name: str) -> Callable[[type[StudyKind]], type[StudyKind]]:
        """Class decorator that enters a kind."""

        def enter(cls: type[StudyKind]) -> type[StudyKind]:
            cls.name = name
            self._kinds[name] = cls()
            return cls

        return enter

    @property
    def names(self) -> list[str]:
        """Names in alphabetical order."""
        return sorted(self._kinds)

    def __getitem__(self, name: str) -> StudyKind:
        """Kind of a name."""
        if name not in self._kinds:
            raise unknown_name("kind", name, self._kinds)
        return self._kinds[name]


KINDS = Kinds()
