"""Place slot: who decodes what others prefilled, and who moves where."""

from typing import Any, Final

from sojourn.policies.place import least_loaded

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "least_loaded": (least_loaded.Config, least_loaded.LeastLoaded),
}
