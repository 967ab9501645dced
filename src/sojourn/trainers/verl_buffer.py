"""verl's replay buffers, telling the curriculum what they hand out and what they drop.

`trainer.v1.sampler.custom_sampler` with path `pkg://sojourn.trainers.verl_buffer`, and name
`GroupsObserved` for the trainer mode `sync` or `GroupsObservedAsync` for the others. They need
verl's v1 trainer and its transfer queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from sojourn.errors import UserError, unknown
from sojourn.trainers import verl as ours
from sojourn.trainers.verl import Trajectory

TRAIN: Final = "train"
"""verl's name of the partition that is trained on."""
PASSED_ON: Final = (
    "filter_groups_metric",
    "train_batch_size",
    "gen_batch_size",
    "max_inflight_gen_batches",
    "sync_refill_failed_groups",
)
"""What verl gives its own buffer and not a custom one; ours takes it from `sampler_kwargs`."""


class _Observing:
    """What is sampled is trained and observed; what is evicted is observed and given up."""

    partitions: dict[str, dict[str, dict[str, Any]]]
    max_off_policy_threshold: int | None
    bufferless = False

    def __init__(self, *, sampler_kwargs: Mapping[str, Any] | None = None, **given: Any) -> None:
        for key, value in (sampler_kwargs or {}).items():
            if key not in PASSED_ON:
                raise unknown("key of trainer.v1.sampler.sampler_kwargs", str(key), PASSED_ON)
            given[key] = value
        super().__init__(sampler_kwargs=sampler_kwargs, **given)  # type: ignore[call-arg]

    def sample(
        self, global_steps: int, partition_id: str, batch_size: int
    ) -> tuple[Any, dict[str, Any]]:
        """Return the batch that verl's buffer returns, with the curriculum's metrics."""
        batch, metrics = super().sample(  # type: ignore[misc]
            global_steps=global_steps, partition_id=partition_id, batch_size=batch_size
        )
        if partition_id != TRAIN:
            return batch, metrics
        curriculum = ours.installed()
        groups = curriculum.run.plan.batch_groups
        if batch_size != groups:
            raise UserError(
                f"data.train_batch_size is {batch_size} and plan.batch_groups of the settings is "
                f"{groups}; they must be equal"
            )
        version = global_steps - 1
        came = trajectories(batch.keys, batch.tags, version)
        return batch, {**metrics, **ours.end_step(curriculum, came, version, self._age_max())}

    def _age_max(self) -> int:
        if self.bufferless:
            return -1
        threshold = self.max_off_policy_threshold
        return ours.NEVER_TOO_OLD if threshold is None else threshold

    def _clear_groups(self, partition_id: str, uids: Iterable[str]) -> None:
        """Observe groups before they are dropped: being filtered is a result too."""
        gone = set(uids)
        if partition_id == TRAIN:
            tags = self.partitions[partition_id]
            keys = [key for key in tags if ours.split_key(key)[0] in gone]
            came = trajectories(keys, [tags[key] for key in keys], 0)
            ours.drop(ours.installed(), came)
        super()._clear_groups(partition_id, gone)  # type: ignore[misc]


class GroupsObserved(_Observing, ReplayBuffer):
    """The buffer of the trainer mode `sync`, which carries nothing from step to step."""

    bufferless = True


class GroupsObservedAsync(_Observing, ReplayBufferAsync):
    """The buffer of the asynchronous trainer modes."""


def trajectories(
    keys: Sequence[str], tags: Sequence[Mapping[str, Any]], version: int
) -> list[Trajectory]:
    """Return what verl's buffer holds under some keys of the training partition.

    Args:
        keys: `{uid}_{session}_{output}`.
        tags: verl's tag of each.
        version: Of the weights, where a tag does not say.

    Raises:
        UserError: If the rewards are not there yet.
    """
    if not keys:
        return []
    columns = [ours.GROUP, "rm_scores"]
    try:
        data = tq.kv_batch_get(keys=list(keys), partition_id=TRAIN, select_fields=columns)
        groups, rewards = data[ours.GROUP].tolist(), data["rm_scores"].sum(dim=1).tolist()
    except (KeyError, ValueError) as error:
        raise UserError(
            f"verl's buffer lacks a column that the curriculum reads ({error}): the data set must "
            "be RowsChosen, and rewards must be computed by the reward loop, not by a reward "
            "model that shares the trainer's devices"
        ) from None
    found = []
    for key, tag, group, reward in zip(keys, tags, groups, rewards, strict=True):
        _, session, output = ours.split_key(key)
        made_by = tag.get("min_global_steps")
        made_by = version if made_by is None else int(made_by)
        tokens = int(tag["response_len"])
        found.append(Trajectory(int(group), session, output, float(reward), tokens, made_by))
    return found
