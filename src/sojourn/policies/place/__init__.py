"""Place slot: who decodes what others prefilled, and who moves where."""

from typing import Any, Final

from sojourn.policies.place import decode_limit, least_loaded, llumnix, llumnix_code, pd_serve

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "decode_limit": (decode_limit.Config, decode_limit.DecodeLimit),
    "least_loaded": (least_loaded.Config, least_loaded.LeastLoaded),
    "llumnix": (llumnix.Config, llumnix.Llumnix),
    "llumnix_code": (llumnix_code.Config, llumnix_code.LlumnixCode),
    "pd_serve": (pd_serve.Config, pd_serve.PdServe),
}
