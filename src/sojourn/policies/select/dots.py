"""Prompts predicted to be solved half of the time, from a reference set that is tried regularly.

Source: DOTS (Sun et al. 2025; arXiv 2506.05316) and its released code: every 2 steps 256 reference
    prompts are rolled out; others are predicted by attention over embeddings, calibrated, and
    sampled with weight exp(-|d - 0.5| / 0.001).
Reads: `meta["embedding"]` of each prompt; rewards of reference groups; training steps asked for.
Memory: the reference set and its success rates; the calibration; its stream.
Needs: EMBEDDINGS.
Deviations: the trained adapter over the embeddings and the MLP that makes temperature and bias from
    mean and deviation of the reference rates are left out. Two parameters are fitted on the current
    reference set instead: of logits, each prompt predicted without itself ("logit"), or the line
    that the code fits last, each predicted with itself ("line"). Predictions are made for a pool.
Fails when: embeddings say little about difficulty: the line then predicts the mean for all. The
    temperature picks nearly the same prompts each time. A pick costs O(candidates x reference).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.errors import UserError, unknown
from sojourn.policies.select.attention import Known, Predictor
from sojourn.policies.select.pool import Pooled, draw
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Pick, Setting, State
from sojourn.rollout.views import View

VARIANTS: Final = ("logit", "line")


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the prediction and the choice.

    Attributes:
        every_steps: Training steps between two trials of a reference set.
        reference: Prompts in it.
        target: Success rate that is best.
        temperature: Distance from it that costs a factor e.
        pool: Candidates for each prompt wanted.
        variant: What is calibrated: "logit" or "line".
        trains_reference: Whether reference groups are trained too.
    """

    every_steps: int = 2
    reference: int = 256
    target: float = 0.5
    temperature: float = 0.001
    pool: int = 16
    variant: str = "logit"
    trains_reference: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, least in (("every_steps", 1), ("reference", 2), ("pool", 1)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"select.{name} is {value}; it must be at least {least}")
        if self.variant not in VARIANTS:
            raise unknown("select.variant", self.variant, VARIANTS)
        if not 0.0 <= self.target <= 1.0 or self.temperature <= 0.0:
            raise UserError("select.target must be in 0 to 1 and select.temperature above 0")


class Dots(Pooled):
    """A reference set, predictions from it, and draws near the target."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.EMBEDDINGS})

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(setting, config.pool)
        self.config = config
        for one in setting.prompts:
            if not one.meta.get("embedding"):
                raise UserError(
                    f"select.dots needs meta['embedding']; prompt {one.id} has none (in a "
                    "scenario, prompts.embedding_numbers gives each so many numbers)"
                )
        self.prompts = setting.prompts
        self.tried, self.heard = -config.every_steps, -1
        self.pending: list[int] = []
        self.running: dict[int, None] = {}
        self.rates: dict[int, float] = {}
        self.fresh: dict[int, float] = {}
        self.predictor: Predictor | None = None

    def propose(self, count: int, view: View) -> list[Pick]:
        """Try the reference set if it is time, else draw by predictions from the latest one."""
        config = self.config
        over = not self.pending and not any(map(view.is_open, self.running))
        if over:
            self.running.clear()  # of those whose group was given up nothing is heard
            if len(self.fresh) > 1:
                self._use(self.fresh)
        if over and (self.predictor is None or view.step - self.tried >= config.every_steps):
            self.tried, self.running, self.fresh = view.step, {}, {}
            self.pending = draw(self.stream, self.ids, config.reference, view)
        if self.pending:
            now, self.pending = self.pending[:count], self.pending[count:]
            self.running.update(dict.fromkeys(now))
            share = min(config.reference / len(self.ids), 1.0)
            return [Pick(one, share, "reference") for one in now if not view.is_open(one)]
        if self.predictor is None:
            return []  # the first set still runs
        pool = self.pool(count, view)
        rates = [self.predictor.rate(self.prompts[one].meta["embedding"]) for one in pool]
        logs = [-abs(one - config.target) / config.temperature for one in rates]
        return self.drawn(pool, logs, count, "predicted rate")

    def keep(self, result: GroupResult, view: View) -> bool:
        """Train what was selected; reference groups only if that is wanted."""
        return self.config.trains_reference or result.group.uid != self.heard

    def observe(self, result: GroupResult, view: View) -> None:
        """Note the rate of a reference prompt."""
        prompt_id, values = result.group.prompt_id, result.values
        if prompt_id in self.running:
            del self.running[prompt_id]
            self.heard = result.group.uid
            self.fresh[prompt_id] = sum(map(view.plan.success, values)) / len(values)

    def _use(self, rates: dict[int, float]) -> None:
        """Predict from a complete set from now on."""
        self.rates, self.fresh = rates, {}
        known = [Known(self.prompts[one].meta["embedding"], rate) for one, rate in rates.items()]
        self.predictor = Predictor(known, self.config.variant == "logit")

    def metrics(self) -> Metrics:
        """Return how many prompts were tried last."""
        return {**super().metrics(), "reference": float(len(self.rates))}

    def state_dict(self) -> State:
        """Return everything but the embeddings and what follows from them."""
        return {
            **super().state_dict(),
            "tried": [self.tried, self.heard],
            "sets": [self.pending, list(self.running)],
            "rates": [list(map(list, one.items())) for one in (self.rates, self.fresh)],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on where another left off."""
        super().load_state_dict(state)
        self.tried, self.heard = state["tried"]
        self.pending, self.running = list(state["sets"][0]), dict.fromkeys(state["sets"][1])
        used, fresh = (dict(map(tuple, one)) for one in state["rates"])
        if used:
            self._use(used)
        self.fresh = fresh
