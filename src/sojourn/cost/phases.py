"""Step times given apart for prompts and for decodes, as DistServe's simulator has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sojourn.cost.fitted import Coefficients, Fitted
from sojourn.decide.clock import Time
from sojourn.errors import UserError


@dataclass(frozen=True, slots=True)
class Phases:
    """Coefficients of both phases, in milliseconds.

    Attributes:
        prefill: Of a prompt step: fixed, a token, and a squared token of each prompt.
        small: Of a decode step with few requests: fixed, a KV token read, and a request.
        large: The same of a step with at least `threshold` requests.
        threshold: See `large`.
    """

    prefill: tuple[float, float, float]
    small: tuple[float, float, float]
    large: tuple[float, float, float]
    threshold: int = 95


OPT_13B_A100: Final = {
    1: Phases(
        (18.10254647486372, 0.1019122572698738, 7.122264314252114e-06),
        (19.934702624895458, 0.0006269356524350583, 0.03850697740828398),
        (7.1661889468253595, 0.0005798000403396046, 0.15831096191764046),
    ),
    2: Phases(
        (14.742973695171262, 0.06857720739764, 2.4495727400243586e-06),
        (13.294796350285385, 0.00034109219700723494, 0.06296393225243659),
        (10.638741913126715, 0.00031183369638295723, 0.08562913604102729),
    ),
    4: Phases(
        (12.062297033449054, 0.03808140082550695, 5.226249731787869e-07),
        (10.256231678259395, 0.00018786702316166354, 0.03269273629225551),
        (10.483514938375274, 0.00017120888562939117, 0.04566648525887034),
    ),
}
"""OPT-13B on A100-80G by tensor-parallel size (LLMServe/DistServe @ 82831f1, Apache-2.0:
simdistserve/estimators/profile_data/profiler-a100-80g.distserve.json)."""

OPT_13B_KV_TOKENS: Final = {
    (1, 1): 66_144,
    (1, 2): 163_008,
    (1, 4): 356_752,
    (2, 1): 163_008,
    (2, 2): 356_752,
    (2, 4): 744_224,
    (4, 1): 356_736,
    (4, 2): 744_224,
    (4, 4): 1_519_168,
}
"""KV tokens that OPT-13B leaves room for on A100-80G, by (tensor, pipeline) parallel size (the
same source, max_num_tokens.csv)."""

OPT_13B_KV_TOKEN_BYTES: Final = 2 * 2 * 40 * 5120
"""Bytes of KV of one token: keys and values of 40 layers of 5,120, in 16 bits."""


class Phased:
    """A `StepTime` of two phases that were measured apart.

    Prompts alone take `a + b * tokens + c * sum of L * L` over prompts of L tokens; a chunk counts
    with what its prompt's squares grow by. Decodes alone take `a + b * context + c * decodes`, with
    other coefficients from `threshold` decodes on. Nobody measured steps that mix the phases; here
    they take the decodes' time and that of the prompts' tokens, with the decodes' fixed part only.
    """

    __slots__ = ("large", "prompts", "small", "threshold")

    def __init__(self, phases: Phases) -> None:
        fixed, token, square = (value / 1000 for value in phases.prefill)
        if square < 0 or token < square:
            raise UserError(
                f"the coefficients of a prompt are {phases.prefill}; the last must be 0 or more, "
                "and at most the second"
            )
        # With p tokens before a chunk of c, its square grows by 2 c p + c c = 2 pairs - tokens.
        prompt = Coefficients(fixed=fixed, prefill_token=token - square, pair=2 * square)
        self.prompts = Fitted(prompt)
        self.small = _decodes(phases.small, prompt)
        self.large = _decodes(phases.large, prompt)
        self.threshold = phases.threshold

    def step(
        self, tokens: int, pairs: int, prior: int, prompts: int, decodes: int, context: int
    ) -> Time:
        """Return the duration of one step."""
        cost = self._of(decodes) if decodes else self.prompts
        return cost.step(tokens, pairs, prior, prompts, decodes, context)

    def run(self, decodes: int, context: int, steps: int) -> Time:
        """Return the duration of successive decode steps."""
        return self._of(decodes).run(decodes, context, steps)

    def steps_until(self, decodes: int, context: int, duration: Time) -> int:
        """Return the smallest n with `run(decodes, context, n) >= duration`."""
        return self._of(decodes).steps_until(decodes, context, duration)

    def _of(self, decodes: int) -> Fitted:
        return self.small if decodes < self.threshold else self.large


def _decodes(milliseconds: tuple[float, float, float], prompt: Coefficients) -> Fitted:
    fixed, context, each = (value / 1000 for value in milliseconds)
    return Fitted(replace(prompt, fixed=fixed, context_token=context, decode=each))
