"""How long a step takes and how much KV memory there is."""

from sojourn.cost.coefficient_file import (
    CoefficientFile,
    MeasuredEngine,
    load_coefficients,
    load_fitted,
)
from sojourn.cost.fitted import Coefficients, Fitted
from sojourn.cost.floor import Floor, check_floor
from sojourn.cost.linear import LinearStep
from sojourn.cost.memory import kv_blocks
from sojourn.cost.phases import Phased, Phases
from sojourn.cost.roofline import OVERLAPPED, SYNCHRONOUS, Host, Roofline

__all__ = [
    "OVERLAPPED",
    "SYNCHRONOUS",
    "CoefficientFile",
    "Coefficients",
    "Fitted",
    "Floor",
    "Host",
    "LinearStep",
    "MeasuredEngine",
    "Phased",
    "Phases",
    "Roofline",
    "check_floor",
    "kv_blocks",
    "load_coefficients",
    "load_fitted",
]
