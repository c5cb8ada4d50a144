"""What a diagnosis found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradconv.errors import InputError
from gradconv.mesh import MeshHierarchy
from gradconv.multilevel.diagnosis.cautions import Caution
from gradconv.multilevel.diagnosis.complexity import Complexity
from gradconv.multilevel.diagnosis.components import Components
from gradconv.multilevel.diagnosis.derived_orders import DerivedOrder
from gradconv.multilevel.diagnosis.error_cost import Errors, Forecast
from gradconv.multilevel.diagnosis.level_table import LevelTable
from gradconv.multilevel.diagnosis.repetition import Measured
from gradconv.multilevel.diagnosis.term_costs import Costs
from gradconv.multilevel.diagnosis.term_orders import TermOrders
from gradconv.multilevel.moments import Moments
from gradconv.rates import Rate

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Moments, orders, costs and warnings of a multilevel gradient.

    Parameters
    ----------
    configuration : dict
        What was diagnosed and how; JSON values.
    hierarchy : MeshHierarchy
        The levels.
    tables : tuple of LevelTable
        Of the whole gradient, then of each layer.
    components : Components
        Largest checks and kurtoses of single components, and the table of the worst.
    costs : dict of str to Costs
        By unit: work, flops, seconds.
    unit : str
        The unit that sample numbers and forecasts are in.
    rates : dict of str to TermOrders
        α and β by group: ``"whole"``, layers, the worst component.
    gammas : dict of str to Rate
        γ by unit.
    complexity : Complexity
        Case of the complexity theorem, for the whole gradient.
    errors : Errors
        Errors that costs are forecast for.
    forecasts : tuple of Forecast
        Of every estimator at every error.
    measured : dict of Forecast to Measured
        What repetitions gave, where there were any.
    laws : tuple of DerivedOrder
        Derived orders, of the module's own problem or as context.
    cautions : tuple of Caution
        In words, gravest first.
    notes : tuple of str
        How the module was treated.
    seed : int
        Of data, weights that a callable drew, and stochastic models.
    device, dtype : str
        Where and how precisely it was computed.
    confidence : float
        Level of the intervals.
    """

    configuration: dict[str, Any]
    hierarchy: MeshHierarchy
    tables: tuple[LevelTable, ...]
    components: Components
    costs: dict[str, Costs]
    unit: str
    rates: dict[str, TermOrders]
    gammas: dict[str, Rate]
    complexity: Complexity
    errors: Errors
    forecasts: tuple[Forecast, ...]
    measured: dict[Forecast, Measured]
    laws: tuple[DerivedOrder, ...]
    cautions: tuple[Caution, ...]
    notes: tuple[str, ...]
    seed: int
    device: str
    dtype: str
    confidence: float = 0.95

    @property
    def whole(self) -> LevelTable:
        """Table of the whole gradient."""
        return self.tables[0]

    @property
    def moments(self) -> Moments:
        """Of the whole gradient, as allocations take them."""
        return self.whole.moments

    @property
    def gamma(self) -> Rate:
        """γ in the unit that sample numbers are in."""
        return self.gammas[self.unit]

    def table(self) -> Table:
        """Lay the level table of the whole gradient out for the terminal."""
        from gradconv.multilevel.diagnosis.present import level_table

        return level_table(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Everything as one JSON document of the schema ``gradconv.multilevel/1``."""
        from gradconv.multilevel.diagnosis.document import document

        return document(self)

    def save(self, folder: str | Path) -> None:
        """Write ``multilevel.json``, ``table.md`` and ``figure.png/pdf/svg``.

        Parameters
        ----------
        folder : str or Path
            Made if it is missing; files of these names are replaced.

        Raises
        ------
        InputError
            If `folder` is a file.
        StorageError
            If it cannot be written.
        """
        from gradconv.multilevel.diagnosis.document import write

        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise InputError(f"`folder` must be a folder; got the file {path}")
        write(self, path)
