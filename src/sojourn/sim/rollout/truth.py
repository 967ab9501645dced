"""What is true of the prompts and the policy in training, and what a simulated rollout will be.

Prompt i is solved with probability σ(z_i + drift + own gain + gain of its domain). Training on a
group whose rewards differ gains; gains are forgotten; some prompts jump. Nothing here depends on
the order in which rollouts run: each draw has a stream of its own, named by prompt, visit and
place in the group, so that two candidates that open the same group get the same rollouts.

A rollout is right or wrong, and as long as it is, from its first submission on, also when later
weights go on with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import exp, log, sqrt
from statistics import fmean, pstdev
from typing import Final, NamedTuple

from sojourn.errors import UserError
from sojourn.rollout.model import Prompt
from sojourn.rollout.streams import Stream
from sojourn.sim.rollout.lengths import STANDARD, LengthPlan, blend
from sojourn.sim.rollout.measured import Measured

PROMPTS_MAX: Final = 1_000_000
TURNS_MAX: Final = 1000
FEATURE_MEMORY: Final = 0.8
"""Share of the variance of a feature's noise that stays the same over a rollout."""
EMBEDDED_LOGIT: Final = 0.7
"""Correlation of the first number of an embedding with how easy the prompt is."""


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """The prompts of a run.

    Attributes:
        count: How many there are.
        tokens_median, tokens_sigma_log: Log-normal lengths.
        embedding_numbers: Length of an embedding in `Prompt.meta`; 0 for none.
        domains: Share of each domain, by name.
        measured: What was measured of a user's own prompts; prompt i is the i-th of them, over
            again where there are more. None for prompts of a law.
    """

    count: int = 2000
    tokens_median: float = 200.0
    tokens_sigma_log: float = 0.5
    embedding_numbers: int = 0
    domains: Mapping[str, float] = field(default_factory=lambda: {"all": 1.0})
    measured: Measured | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, least, most in (
            ("count", 1, PROMPTS_MAX),
            ("tokens_median", 1, 10**6),
            ("tokens_sigma_log", 0, 3),
            ("embedding_numbers", 0, 1024),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise UserError(f"prompts.{name} is {value:g}; it must be from {least} to {most}")
        if not self.domains or min(self.domains.values()) <= 0:
            raise UserError("prompts.domains must name at least one domain, each share above 0")


@dataclass(frozen=True, slots=True)
class TruthPlan:
    """How hard prompts are and how the policy learns; logits throughout.

    Attributes:
        logit_mean, logit_sd: Of the prompts at the start.
        domain_sd: Of what the prompts of a domain have in common.
        drift_logits: What every prompt gains with each weight version.
        gain_logits: What a prompt gains when it is trained on a group with different rewards.
        domain_gain_logits: What all others of its domain gain from that.
        forget_share: Share of all gains that is lost with each version.
        jump_share, jump_logits: Share of the prompts that jump with each version, up or down, and
            how far.
        reward_noise: Probability that a reward is the wrong one.
        feature_auc: How well the features of a running rollout tell whether it will be right.
    """

    logit_mean: float = -0.3
    logit_sd: float = 1.8
    domain_sd: float = 0.5
    drift_logits: float = 0.005
    gain_logits: float = 0.1
    domain_gain_logits: float = 0.0005
    forget_share: float = 0.01
    jump_share: float = 0.0
    jump_logits: float = 2.0
    reward_noise: float = 0.0
    feature_auc: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, least, most in (
            ("logit_mean", -20.0, 20.0),
            ("logit_sd", 0.0, 20.0),
            ("domain_sd", 0.0, 20.0),
            ("drift_logits", -1.0, 1.0),
            ("gain_logits", -10.0, 10.0),
            ("domain_gain_logits", -1.0, 1.0),
            ("forget_share", 0.0, 1.0),
            ("jump_share", 0.0, 1.0),
            ("jump_logits", 0.0, 20.0),
            ("reward_noise", 0.0, 0.5),
            ("feature_auc", 0.5, 0.999),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise UserError(f"truth.{name} is {value:g}; it must be from {least:g} to {most:g}")


class Made(NamedTuple):
    """A prompt as it is made: how hard it is, and the score of its lengths.

    Attributes:
        domain, tokens: Of the prompt.
        logit: Of success at the start.
        ease: How much easier it is than others, about standard normal.
        own: Standard normal score of its lengths.
    """

    domain: str
    tokens: int
    logit: float
    ease: float
    own: float


class Draw(NamedTuple):
    """What a rollout will be.

    Attributes:
        right: Whether it succeeds, unless it is truncated.
        tokens: Sampled tokens until it ends by itself.
        turn_ends: Sampled tokens at which its turns end, but for the last.
        noise: Standard normal noise of its features.
        stream: For what is drawn about it later.
    """

    right: bool
    tokens: int
    turn_ends: tuple[int, ...]
    noise: float
    stream: Stream


class Truth:
    """The state of the world that no policy sees.

    Attributes:
        prompts: The prompts of the run.
        version: Weight version that the probabilities are of.
        base: Logit of each prompt without any gain.
        own: Standard normal score of each prompt's lengths.
        gains: Gain of each prompt that has any, and as of which version.
        domain_gains: Gain of each domain.
    """

    def __init__(
        self,
        prompts: PromptPlan,
        truth: TruthPlan,
        lengths: LengthPlan,
        turns_mean: float,
        seed: int,
    ) -> None:
        self.plan = truth
        self.lengths = lengths
        self.law = lengths.law()
        self.turns_mean = turns_mean
        self.seed = seed
        self.version = 0
        self.jumps = Stream(seed, "truth/jumps")
        self.separation = sqrt(2.0) * STANDARD.inv_cdf(truth.feature_auc)
        self.prompts: list[Prompt] = []
        self.base: list[float] = []
        self.own: list[float] = []
        self.gains: dict[int, tuple[float, int]] = {}
        self.domain_gains = dict.fromkeys(prompts.domains, 0.0)
        self._make(prompts)

    def _make(self, plan: PromptPlan) -> None:
        """Make the prompts: of the plan's laws, or as they were measured."""
        made = self._drawn(plan) if plan.measured is None else self._measured(plan, plan.measured)
        stream = Stream(self.seed, "truth/embeddings")
        for at, one in enumerate(made):
            meta = {}
            if plan.embedding_numbers:
                first = blend(one.ease, stream.normal(), EMBEDDED_LOGIT)
                rest = [stream.normal() for _ in range(plan.embedding_numbers - 1)]
                meta["embedding"] = [round(value, 6) for value in (first, *rest)]
            self.prompts.append(Prompt(at, one.domain, one.tokens, meta))
            self.base.append(one.logit)
            self.own.append(one.own)

    def _drawn(self, plan: PromptPlan) -> list[Made]:
        """Return prompts of the plan's laws."""
        stream = Stream(self.seed, "truth/prompts")
        offset = Stream(self.seed, "truth/domains")
        shared = {name: self.plan.domain_sd * offset.normal() for name in plan.domains}
        found = []
        for _ in range(plan.count):
            domain = self._domain(plan, stream)
            ease = stream.normal()
            tokens = _prompt_tokens(plan, stream)
            own = blend(-ease, stream.normal(), self.lengths.difficulty_correlation)
            logit = self.plan.logit_mean + self.plan.logit_sd * ease + shared[domain]
            found.append(Made(domain, tokens, logit, ease, own))
        return found

    def _measured(self, plan: PromptPlan, measured: Measured) -> list[Made]:
        """Return prompts as they were measured; what the file does not say is of the laws."""
        known = measured.prompts
        streams = [Stream(self.seed, f"truth/measured/{at}") for at in range(plan.count)]
        logits = []
        for at, stream in enumerate(streams):
            share = measured.probability(at % len(known), stream)
            logits.append(log(share / (1.0 - share)))
        middle, spread = fmean(logits), pstdev(logits) or 1.0
        found = []
        for at, stream in enumerate(streams):
            one = known[at % len(known)]
            ease = (logits[at] - middle) / spread
            if measured.has_lengths:
                rho = self.lengths.group_correlation
                own = measured.own_score(at % len(known), rho, stream)
            else:
                own = blend(-ease, stream.normal(), self.lengths.difficulty_correlation)
            domain = one.domain or self._domain(plan, stream)
            tokens = one.tokens or _prompt_tokens(plan, stream)
            found.append(Made(domain, tokens, logits[at], ease, own))
        return found

    def _domain(self, plan: PromptPlan, stream: Stream) -> str:
        return list(plan.domains)[stream.weighted(list(plan.domains.values()))]

    def probability(self, prompt: int) -> float:
        """Return the probability that a rollout of a prompt is right, with the present weights."""
        plan = self.plan
        gain, since = self.gains.get(prompt, (0.0, self.version))
        kept = gain * (1.0 - plan.forget_share) ** (self.version - since)
        logit = self.base[prompt] + plan.drift_logits * self.version + kept
        logit += self.domain_gains[self.prompts[prompt].domain]
        return 1.0 / (1.0 + exp(-min(max(logit, -50.0), 50.0)))

    def mean_probability(self) -> float:
        """Return the mean over all prompts."""
        return sum(map(self.probability, range(len(self.prompts)))) / len(self.prompts)

    def train(self, prompts: Iterable[int]) -> None:
        """Let the policy learn from groups of these prompts, whose rewards differed."""
        plan = self.plan
        for prompt in prompts:
            gain, since = self.gains.get(prompt, (0.0, self.version))
            kept = gain * (1.0 - plan.forget_share) ** (self.version - since)
            self.gains[prompt] = (kept + plan.gain_logits, self.version)
            self.domain_gains[self.prompts[prompt].domain] += plan.domain_gain_logits

    def advance(self) -> None:
        """Go on to the next weight version: forget, and let some prompts jump."""
        self.version += 1
        for domain in self.domain_gains:
            self.domain_gains[domain] *= 1.0 - self.plan.forget_share
        jumps = int(self.plan.jump_share * len(self.prompts) + self.jumps.uniform())
        for _ in range(jumps):
            prompt = self.jumps.below(len(self.prompts))
            sign = 1.0 if self.jumps.uniform() < 0.5 else -1.0
            self.base[prompt] += sign * self.plan.jump_logits

    def draw(self, prompt: int, visit: int, place: int, purpose: str = "rollout") -> Draw:
        """Return what a rollout will be that begins with the present weights.

        Args:
            prompt: The prompt.
            visit: Which group of the prompt it is of, counted from 0.
            place: Which rollout of the group it is.
            purpose: Another name gives other numbers.
        """
        stream = Stream(self.seed, f"truth/{purpose}/{prompt}/{visit}/{place}")
        lengths = self.lengths
        right = stream.uniform() < self.probability(prompt)
        score = blend(self.own[prompt], stream.normal(), sqrt(lengths.group_correlation))
        factor = (1.0 if right else lengths.wrong_factor) * exp(lengths.growth_log * self.version)
        tokens = min(max(round(self.law.at(score) * factor), 1), 10**7)
        noise = stream.normal()
        turns = self._turns(stream)
        ends = dict.fromkeys(tokens * turn // turns for turn in range(1, turns))
        return Draw(right, tokens, tuple(end for end in ends if 0 < end < tokens), noise, stream)

    def _turns(self, stream: Stream) -> int:
        """Return a number of turns: one, and a geometric number of others."""
        if self.turns_mean <= 1.0:
            return 1
        again = 1.0 - 1.0 / self.turns_mean
        return min(1 + int(log(1.0 - stream.uniform()) / log(again)), TURNS_MAX)

    def feature(self, draw: Draw) -> float:
        """Return what an engine can say of a running rollout: higher where it may be right.

        A number in 0 to 1, no probability; among equally many right and wrong rollouts it has the
        plan's AUC whenever it is looked at.
        """
        fresh = draw.stream.normal()
        noise = sqrt(FEATURE_MEMORY) * draw.noise + sqrt(1.0 - FEATURE_MEMORY) * fresh
        sign = 0.5 if draw.right else -0.5
        return 1.0 / (1.0 + exp(-(sign * self.separation + noise)))

    def reward(self, draw: Draw, ended: bool, low: float, high: float) -> float:
        """Return the reward of a rollout; one that was truncated fails."""
        right = draw.right and ended
        if self.plan.reward_noise and draw.stream.uniform() < self.plan.reward_noise:
            right = not right
        return high if right else low


def _prompt_tokens(plan: PromptPlan, stream: Stream) -> int:
    return max(round(exp(log(plan.tokens_median) + plan.tokens_sigma_log * stream.normal())), 1)
