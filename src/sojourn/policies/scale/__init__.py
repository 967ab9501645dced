"""Scale slot: how many replicas there are."""

from typing import Any, Final

from sojourn.policies.scale import fixed, llumnix, llumnix_code

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "fixed": (fixed.Config, fixed.Fixed),
    "llumnix": (llumnix.Config, llumnix.Llumnix),
    "llumnix_code": (llumnix_code.Config, llumnix_code.LlumnixCode),
}
