"""Find measurements by name: an entry of `openwit.training.config.measurements`, or your own function.

The module of an entry has two functions: `open_data` opens the images, before a model is loaded or training begins,
and `measure` returns metrics with intervals and counts. Suites, commands and `eval.evaluators` call the same two.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.plugins import load_callable, one_line
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import MEASUREMENTS
from openwit.training.evaluation.measurements.context import Figure, MeasureContext, Measurement
from openwit.training.evaluation.measurements.settings import AnyMeasurement, CustomMeasurement

__all__ = ["Code", "Figure", "MeasureContext", "Measurement", "Registered", "code_of", "find_measurement"]


class Code(Protocol):
    """The module of a measurement."""

    def open_data(self, data: DatasetSettings, settings: Any, report: Callable[[str], None]) -> Any:
        """Open the data, and check that they can be measured with these settings.

        Args:
            data: where they are.
            settings: of the measurement.
            report: receives sentences on what was found and left out.

        Raises:
            OpenWITError: they are not there, or cannot be measured.
        """
        ...

    def measure(self, context: MeasureContext, opened: Any, settings: Any) -> Measurement:
        """Measure a model on data that are open."""
        ...


@dataclass(frozen=True)
class Registered:
    """A measurement that was found.

    Attributes:
        code: its functions.
        kind: of the data that it needs; None: any.
        needs: keys that its datasets must have.
    """

    code: Code
    kind: str | None
    needs: tuple[str, ...] = ()


def code_of(name: str) -> Code:
    """Return the functions of a built-in measurement."""
    return cast(Code, importlib.import_module(MEASUREMENTS[name].code))


def find_measurement(settings: AnyMeasurement, *, key: str = "") -> Registered:
    """Return the measurement that settings name: a built-in one, or your own function by dotted name.

    Your own is called as `function(context, **settings)` and returns a `Measurement`; its attribute `kind`, "labelled"
    or "captioned", says which datasets it is for.

    Raises:
        RecipeError: it cannot be loaded, or does not take these settings.
    """
    if not isinstance(settings, CustomMeasurement):
        entry = MEASUREMENTS[settings.name]
        return Registered(code_of(settings.name), entry.kind, entry.needs)
    function = load_callable(settings, key=key, positional=1)
    kind = getattr(function, "kind", None)
    if kind not in (None, "labelled", "captioned"):
        raise RecipeError(f"{key}: the attribute kind of {settings.name!r} must be 'labelled' or 'captioned'")
    return Registered(_Own(function, settings.name), kind)


@dataclass(frozen=True)
class _Own:
    """Your own function, which opens the data itself."""

    function: Callable[..., Any]
    name: str

    def open_data(self, _data: DatasetSettings, _settings: Any, _report: Callable[[str], None]) -> None:
        """Open nothing."""

    def measure(self, context: MeasureContext, _opened: Any, settings: Any) -> Measurement:
        """Call the function."""
        try:
            found = self.function(context, **settings.settings)
        except (DataError, RecipeError):
            raise
        except Exception as error:
            raise RecipeError(f"{self.name} failed: {one_line(error)}") from error
        if not isinstance(found, Measurement):
            raise RecipeError(f"{self.name!r} returned a {type(found).__name__}, not a Measurement")
        return found
