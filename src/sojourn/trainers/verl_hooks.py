"""The data set and the advantage estimator that verl loads by name.

Point verl's configuration here with `pkg://sojourn.trainers.verl_hooks`; a path to the file would
be loaded anew each time and the parts would not find each other. Importing it registers the
advantage estimator `sojourn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from torch.utils.data import get_worker_info
from verl.trainer.ppo.core_algos import register_adv_est
from verl.utils.dataset.rl_dataset import RLHFDataset

from sojourn.errors import UserError
from sojourn.rollout.model import Prompt
from sojourn.trainers import verl as ours
from sojourn.trainers.curriculum import Curriculum
from sojourn.trainers.settings import load

SETTINGS: Final = "sojourn"
"""Key of verl's data configuration that holds the path of the settings file."""


@register_adv_est("sojourn")
def estimate(
    token_level_rewards: Any, response_mask: Any, index: Any = None, **_: Any
) -> tuple[Any, Any]:
    """Return advantages and returns from groups of any sizes; verl's `adv_estimator` hook.

    Raises:
        UserError: If verl gives no groups.
    """
    if index is None:
        raise UserError("verl gave the estimator no uid of its rows, so there are no groups")
    return ours.estimate(ours.installed(), token_level_rewards, response_mask, index)


class RowsChosen(RLHFDataset):
    """verl's data set, read in the order that the curriculum wants; `data.custom_cls`.

    The validation set is read as it is. Rows are chosen a batch at a time, so verl's loader must
    fetch them in the driver process: `data.dataloader_num_workers` at 0.
    """

    curriculum: Curriculum | None = None

    def __init__(self, data_files: Any, *args: Any, **kwargs: Any) -> None:
        named = _listed(data_files)  # verl's own constructor replaces paths by local copies
        super().__init__(data_files, *args, **kwargs)
        path = self.config.get(SETTINGS)
        if path is None:
            raise UserError(f"data.{SETTINGS} is not set: it is the path of the settings file")
        if named != _listed(self.config.get("train_files")):
            return
        workers = self.config.get("dataloader_num_workers", 8)
        if workers:
            raise UserError(
                f"data.dataloader_num_workers is {workers}; it must be 0, or rows would be chosen "
                "in processes that know nothing of each other"
            )
        self.curriculum = load(path, prompts_of(self.dataframe))
        ours.install(self.curriculum)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return as many rows as verl asks for; which they are is the curriculum's choice."""
        if self.curriculum is None:
            return [self[at] for at in indices]
        if get_worker_info() is not None:
            raise UserError("rows were asked for in a worker process of the data loader")
        return ours.rows(self.curriculum, self.__getitem__, len(indices))

    def state_dict(self) -> dict[str, Any]:
        """Return the curriculum's state; verl's loader saves it with its own."""
        return {} if self.curriculum is None else self.curriculum.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the curriculum was saved."""
        if self.curriculum is not None and state:
            self.curriculum.load_state_dict(state)


def prompts_of(rows: Any) -> list[Prompt]:
    """Return the prompts of a data set: the domain is verl's `data_source`.

    What `extra_info` holds (difficulty, an embedding) is what policies may read of a prompt.
    """
    columns = [name for name in ("data_source", "extra_info") if name in rows.column_names]
    if not columns:
        return [Prompt(at) for at in range(len(rows))]
    return [
        Prompt(at, str(row.get("data_source", "")), meta=row.get("extra_info") or {})
        for at, row in enumerate(rows.select_columns(columns))
    ]


def _listed(files: Any) -> list[str]:
    """Return the paths of a configuration entry that holds one or several."""
    if files is None or isinstance(files, str):
        return [files or ""]
    return [str(file) for file in files]
