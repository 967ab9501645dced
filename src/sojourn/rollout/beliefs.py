"""What is believed of each prompt: how often the policy solves it, and how long it takes.

One store serves every policy of a run: selectors, allocators, controls and dispatchers read it,
the machine alone writes to it. An observation costs O(1), and so does a look.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sojourn.errors import UserError
from sojourn.rollout.lengths import LengthBelief, Lengths


@dataclass(frozen=True, slots=True)
class BeliefRules:
    """How observations are remembered.

    With both keeps at 1 nothing is forgotten. `update_keep` alone is the rule of MoPPS (its λ);
    both together are a decay on two scales, as in VADE.

    Attributes:
        prior_alpha, prior_beta: Beta distribution of a prompt never seen.
        update_keep: Weight that earlier counts keep at each new observation of a prompt; what they
            lose goes to the prior.
        version_keep: The same for each weight version that passes, seen or not.
        window: Latest observations remembered one by one, of each prompt.
        domain_window: Latest rollouts by which the shares of domains are counted.
        length_keep: Weight that earlier lengths of a prompt keep at each new one.
        length_mean_log, length_sd_log: Logarithm of a length of which nothing is known.
    """

    prior_alpha: float = 1.0
    prior_beta: float = 1.0
    update_keep: float = 1.0
    version_keep: float = 1.0
    window: int = 8
    domain_window: int = 1000
    length_keep: float = 0.9
    length_mean_log: float = 6.0
    length_sd_log: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("prior_alpha", "prior_beta", "length_sd_log"):
            if getattr(self, name) <= 0.0:
                raise UserError(f"beliefs.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("update_keep", "version_keep", "length_keep"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"beliefs.{name} is {getattr(self, name)}; it must be in 0 to 1")
        for name in ("window", "domain_window"):
            if getattr(self, name) < 1:
                raise UserError(f"beliefs.{name} is {getattr(self, name)}; it must be at least 1")


class Belief(NamedTuple):
    """A beta distribution of the probability that a rollout succeeds.

    Attributes:
        alpha, beta: Its parameters, decayed to the version of the look.
        visits: Observations (groups) of the prompt so far.
        trials: Rollouts in them.
        version: Version of the latest; -1 for never seen.
    """

    alpha: float
    beta: float
    visits: int
    trials: int
    version: int

    @property
    def mean(self) -> float:
        """The expected success probability."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def variance(self) -> float:
        """The variance of the success probability."""
        total = self.alpha + self.beta
        return self.alpha * self.beta / (total * total * (total + 1.0))


class Outcome(NamedTuple):
    """Successes among so many rollouts of one group, at a version."""

    version: int
    successes: float
    trials: int


@dataclass(slots=True)
class Counts:
    """What is stored of one prompt; `alpha` and `beta` are as of `version`."""

    alpha: float
    beta: float
    visits: int = 0
    trials: int = 0
    version: int = -1
    recent: deque[Outcome] = field(default_factory=deque)


class BeliefStore:
    """Counts and lengths of all prompts.

    Attributes:
        rules: How observations are remembered; never change.
        counts: What is stored of each prompt ever seen, in the order of the first time.
        lengths: Log lengths of all prompts.
        successes, trials: Of all prompts together, without decay.
        domains: Domains of the latest rollouts, oldest first, and how many there are of each.
    """

    def __init__(self, rules: BeliefRules) -> None:
        self.rules = rules
        self.counts: dict[int, Counts] = {}
        self.lengths = Lengths(rules.length_keep, rules.length_mean_log, rules.length_sd_log)
        self.successes = 0.0
        self.trials = 0
        self.domains: deque[str] = deque()
        self.domain_counts: dict[str, int] = {}

    def observe(self, prompt_id: int, successes: float, trials: int, version: int) -> None:
        """Take note of a group: `successes` of `trials` rollouts, parts allowed.

        `version` is that of the weights when the group settled; it never goes back.
        """
        assert 0.0 <= successes <= trials
        rules, before = self.rules, self.read(prompt_id, version)
        kept, lost = rules.update_keep, 1.0 - rules.update_keep
        counts = self.counts.get(prompt_id)
        if counts is None:
            counts = self.counts[prompt_id] = Counts(rules.prior_alpha, rules.prior_beta)
        assert version >= counts.version, "versions only go up"
        counts.alpha = kept * before.alpha + lost * rules.prior_alpha + successes
        counts.beta = kept * before.beta + lost * rules.prior_beta + trials - successes
        counts.visits += 1
        counts.trials += trials
        counts.version = version
        counts.recent.append(Outcome(version, successes, trials))
        if len(counts.recent) > rules.window:
            counts.recent.popleft()
        self.successes += successes
        self.trials += trials

    def read(self, prompt_id: int, version: int) -> Belief:
        """Return what is believed of a prompt at a version of the weights."""
        rules, counts = self.rules, self.counts.get(prompt_id)
        if counts is None:
            return Belief(rules.prior_alpha, rules.prior_beta, 0, 0, -1)
        age = max(version - counts.version, 0)
        kept = rules.version_keep**age if age else 1.0
        return Belief(
            rules.prior_alpha + kept * (counts.alpha - rules.prior_alpha),
            rules.prior_beta + kept * (counts.beta - rules.prior_beta),
            counts.visits,
            counts.trials,
            counts.version,
        )

    def recent(self, prompt_id: int) -> tuple[Outcome, ...]:
        """Return the latest observations of a prompt, oldest first."""
        counts = self.counts.get(prompt_id)
        return tuple(counts.recent) if counts else ()

    @property
    def pool_mean(self) -> float:
        """Share of successes over all prompts; that of the prior before any."""
        rules = self.rules
        prior = rules.prior_alpha + rules.prior_beta
        return (self.successes + rules.prior_alpha) / (self.trials + prior)

    def completed(self, domain: str) -> None:
        """Take note that a rollout of a domain has ended."""
        self.domains.append(domain)
        self.domain_counts[domain] = self.domain_counts.get(domain, 0) + 1
        if len(self.domains) > self.rules.domain_window:
            gone = self.domains.popleft()
            self.domain_counts[gone] -= 1
            if not self.domain_counts[gone]:
                del self.domain_counts[gone]

    def domain_share(self, domain: str) -> float:
        """Return the share of a domain among the latest rollouts that ended; 0 before any."""
        seen = len(self.domains)
        return self.domain_counts.get(domain, 0) / seen if seen else 0.0

    def length(self, prompt_id: int) -> LengthBelief:
        """Return how long the next rollout of a prompt is believed to be, in sampled tokens."""
        return self.lengths.read(prompt_id)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "counts": [
                [key, [one.alpha, one.beta, one.visits, one.trials, one.version], list(one.recent)]
                for key, one in self.counts.items()
            ],
            "lengths": self.lengths.state_dict(),
            "successes": self.successes,
            "trials": self.trials,
            "domains": list(self.domains),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        self.counts = {key: Counts(*plain) for key, plain, _ in state["counts"]}
        for key, _, recent in state["counts"]:
            self.counts[key].recent.extend(Outcome(*one) for one in recent)
        self.lengths.load_state_dict(state["lengths"])
        self.successes = state["successes"]
        self.trials = state["trials"]
        self.domains = deque(state["domains"])
        self.domain_counts = {}
        for domain in self.domains:
            self.domain_counts[domain] = self.domain_counts.get(domain, 0) + 1
