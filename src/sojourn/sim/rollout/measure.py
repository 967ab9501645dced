"""What is counted while a training run is simulated, and the record made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sojourn.decide.clock import Time, to_seconds
from sojourn.errors import UserError
from sojourn.rollout import states
from sojourn.rollout.actions import GroupOver, Train
from sojourn.rollout.model import TrainGroup
from sojourn.rollout.streams import Stream
from sojourn.sim.rollout.engines import LOST
from sojourn.steplog.rollouts import RolloutRecord, StepRow

if TYPE_CHECKING:
    from sojourn.sim.rollout.loop import RolloutSimulation

FRUITLESS_MAX: Final = 500
"""Groups given up for each group of one batch, beyond which no batch is to be expected."""


class Measure:
    """The counts of a run.

    Attributes:
        record: What is being made.
        asked: When the batch of the step in hand was asked for.
        ends: Groups filtered, discarded, and filtered although their rewards differ, since the
            batch before.
        submitted: Rollouts made up to the batch before.
        busy: Time of all engines in steps up to the end of the step before.
        open: What is known of the step in hand once its batch was made.
    """

    def __init__(self, sim: RolloutSimulation, record: RolloutRecord) -> None:
        self.sim = sim
        self.record = record
        self.asked: Time = 0
        self.ends = [0, 0, 0]
        self.submitted = 0
        self.busy: Time = 0
        self.offered = Stream(sim.seed, "truth/offered")
        self.open: dict[str, int | float] = {}

    def group_over(self, action: GroupOver) -> None:
        """Count a group that was not trained.

        Raises:
            UserError: If so many were given up for one batch that it will hardly ever be full.
        """
        if action.status == states.FILTERED:
            self.ends[0] += 1
            values = self.sim.values_of(action.group)
            self.ends[2] += bool(values) and min(values) < max(values)
        elif action.status == states.DISCARDED:
            self.ends[1] += 1
        sim, given_up = self.sim, self.ends[0] + self.ends[1]
        if given_up > FRUITLESS_MAX * sim.plan.batch_groups:
            raise UserError(
                f"candidate {sim.name!r} has given up {given_up} groups in step "
                f"{sim.machine.run.step} for a batch of {sim.plan.batch_groups}: rewards in a "
                "group hardly ever differ; let more rollouts succeed (truth.logit_mean, "
                "plan.tokens_max), or keep groups without signal"
            )

    def batch(self, action: Train) -> int:
        """Count a batch; return the tokens that the trainer has to train on."""
        sim, run = self.sim, self.sim.machine.run
        fresh = [one for one in action.groups if not one.replayed]
        tokens = lag = oldest = rollouts = 0
        for group in fresh:
            for at in group.subset.indices:
                rollout = group.result.rollouts[at]
                rollouts += 1
                tokens += rollout.sampled
                for version, count in rollout.spans():
                    lag += (action.version - version) * count
                    oldest = max(oldest, action.version - version)
        ledger = run.tokens
        self.open = {
            "waiting_seconds": to_seconds(action.time - self.asked),
            "groups": len(fresh),
            "replayed": len(action.groups) - len(fresh),
            "mixed": sum(one.result.mixed for one in fresh),
            "rollouts": rollouts,
            "tokens": tokens,
            "stale_tokens": action.stale_tokens,
            "lag_tokens": lag,
            "lag_versions_max": oldest,
            "filtered": self.ends[0],
            "discarded": self.ends[1],
            "filtered_mixed": self.ends[2],
            "submitted": run.submitted - self.submitted,
            "generated": ledger.generated,
            "discarded_tokens": ledger.discarded,
            "carried_tokens": ledger.carried,
            "success": sim.truth.mean_probability(),
        }
        self.ends = [0, 0, 0]
        self.submitted = run.submitted
        if action.step > self.record.warmup:
            self._lengths(fresh)
        again = sum(_tokens(one) for one in action.groups if one.replayed)
        return tokens + again

    def _lengths(self, fresh: list[TrainGroup]) -> None:
        """Note trained lengths, and as many of prompts drawn alike from all."""
        sim, record = self.sim, self.record
        most = sim.plan.tokens_max
        for group in fresh:
            prompt = self.offered.below(len(sim.truth.prompts))
            visit = self.offered.below(1 << 40)
            for place, at in enumerate(group.subset.indices):
                record.trained_lengths.append(group.result.rollouts[at].sampled)
                draw = sim.truth.draw(prompt, visit, place, "offered")
                record.offered_lengths.append(min(draw.tokens, most))

    def step_over(self, step: int, now: Time) -> None:
        """Write the row of a step that is over."""
        busy = self._busy(now)
        engines = sum(one.state != LOST for one in self.sim.engines)
        whole = (now - self.asked) * max(engines, 1)
        row = StepRow(
            step=step,
            start_seconds=to_seconds(self.asked),
            seconds=to_seconds(now - self.asked),
            busy_share=(busy - self.busy) / whole if whole else 0.0,
            **self.open,  # type: ignore[arg-type] # names and types are those of `batch`
        )
        self.record.steps.append(row)
        self.busy = busy
        self.asked = now

    def _busy(self, now: Time) -> Time:
        """Return the engines' time in steps, that of the steps in progress included."""
        return sum(
            one.tally.busy + (now - one.replica.start if one.replica.steps else 0)
            for one in self.sim.engines
        )

    def finish(self, now: Time) -> RolloutRecord:
        """Complete the record, and check that every token is accounted for."""
        sim, record = self.sim, self.record
        for engine in sim.engines:
            if engine.state != LOST:
                engine.replica.halt(now)
                record.untold_tokens += sum(
                    flight.reached(engine.replica) - flight.sampled
                    for flight in engine.flights.values()
                )
            record.engine_tokens += engine.tally.generated
            record.prefill_tokens += engine.tally.prefilled
            record.preemptions += engine.load()[3]
        record.tokens = sim.machine.run.tokens.state_dict()
        record.counts = sim.machine.metrics()
        told = record.tokens["generated"]
        assert record.engine_tokens == told + record.untold_tokens, (
            f"engines generated {record.engine_tokens} tokens; {told} were told and "
            f"{record.untold_tokens} were not yet"
        )
        return record


def _tokens(group: TrainGroup) -> int:
    return sum(group.result.rollouts[at].sampled for at in group.subset.indices)
