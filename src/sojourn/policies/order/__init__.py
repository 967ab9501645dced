"""Order slot: who goes first."""

from typing import Any, Final

from sojourn.policies.order import (
    fcfs,
    longest_clairvoyant,
    skip_join_mlfq,
    slo_edf,
    srpt_clairvoyant,
    vtc,
)

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "fcfs": (fcfs.Config, fcfs.Fcfs),
    "longest_clairvoyant": (longest_clairvoyant.Config, longest_clairvoyant.LongestClairvoyant),
    "skip_join_mlfq": (skip_join_mlfq.Config, skip_join_mlfq.SkipJoinMlfq),
    "slo_edf": (slo_edf.Config, slo_edf.SloEdf),
    "srpt_clairvoyant": (srpt_clairvoyant.Config, srpt_clairvoyant.SrptClairvoyant),
    "vtc": (vtc.Config, vtc.Vtc),
}
