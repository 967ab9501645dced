"""verl's questions, answered by a curriculum; nothing here imports verl, torch or ray.

verl makes its data set, its sampler and its advantage estimator from names in its configuration
and hands none of them to the others. All three live in the process that drives the training, and
find the curriculum here. `verl_hooks` has the classes that verl loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any, Final, NamedTuple

from sojourn.errors import UserError
from sojourn.rollout.events import ERROR, STOP
from sojourn.rollout.model import Piece
from sojourn.trainers.curriculum import Attempt, Curriculum
from sojourn.trainers.names import RequestName

ROLLOUTS: Final = "__rollout_n__"
"""The column in which verl's v1 trainer looks for a prompt's own number of rollouts."""
GROUP: Final = "sojourn_group"
PROMPT: Final = "sojourn_prompt"
RUN: Final = "sojourn_run"
"""Columns of ours; verl passes them on with every trajectory. Its `uid` is its own."""

NEVER_TOO_OLD: Final = 1 << 40
"""Versions that a group may be old where verl does not bound it."""

_INSTALLED: Final[list[Curriculum]] = []


def install(curriculum: Curriculum) -> None:
    """Let this process's sampler and estimator find a curriculum; the latest holds."""
    _INSTALLED[:] = [curriculum]


def installed() -> Curriculum:
    """Return the curriculum of this process.

    Raises:
        UserError: If the data set has not made one.
    """
    if not _INSTALLED:
        raise UserError(
            "no curriculum is installed in this process: set data.custom_cls to "
            "pkg://sojourn.trainers.verl_hooks, RowsChosen, and data.sojourn to a settings file"
        )
    return _INSTALLED[0]


def rows(
    curriculum: Curriculum, row: Callable[[int], Mapping[str, Any]], count: int
) -> list[dict[str, Any]]:
    """Return the next rows of a data set: the prompts that the curriculum wants, `count` of them.

    Args:
        curriculum: What chooses.
        row: Returns the row of a prompt.
        count: How many prompts verl's data loader takes.

    Raises:
        UserError: If fewer may be opened, for verl cannot take fewer.
    """
    assignments = curriculum.propose(count)
    if len(assignments) < count:
        raise UserError(
            f"verl takes {count} prompts but only {len(assignments)} may be opened: raise "
            f"plan.staleness_versions and plan.groups_max to what its trainer mode prefetches, or "
            f"let select give more"
        )
    if any(one.prefix_tokens for one in assignments):
        raise UserError(
            "the allocate policy begins rollouts with a hint, which verl's prompts cannot carry"
        )
    return [
        {
            **row(one.prompt_id),
            ROLLOUTS: one.rollouts,
            GROUP: one.group,
            PROMPT: one.prompt_id,
            RUN: curriculum.run_name,
        }
        for one in assignments
    ]


class Trajectory(NamedTuple):
    """A rollout that verl generated.

    Attributes:
        group: Its group's number, from our column.
        session: Which of the group's rollouts, from 0.
        output: Which output of that rollout, from 0.
        reward: Its reward.
        tokens: Response tokens.
        version: Oldest version of the weights that made any of them; verl keeps no spans.
    """

    group: int
    session: int
    output: int
    reward: float
    tokens: int
    version: int


def split_key(key: str) -> tuple[str, int, int]:
    """Return uid, session and output of a trajectory's key in verl's buffer."""
    uid, session, output = key.rsplit("_", 2)
    return uid, int(session), int(output)


def report(curriculum: Curriculum, trajectories: Iterable[Trajectory]) -> None:
    """Tell a curriculum of groups that are over; rollouts that are missing count as failed.

    Raises:
        UserError: If a group came back with rollouts that it was not given, or one of them with
            several outputs.
    """
    groups: dict[int, dict[int, Trajectory]] = {}
    for one in trajectories:
        if one.output:
            raise UserError(
                "a rollout came back with several outputs, which verl gives an estimator without "
                "saying what belongs together: use an agent loop with one output"
            )
        groups.setdefault(one.group, {})[one.session] = one
    attempts: list[Attempt] = []
    for uid, sessions in groups.items():
        group = curriculum.run.groups.get(uid)
        if group is None:
            curriculum.late += len(sessions)
            continue
        if max(sessions) >= len(group.rids):
            raise UserError(
                f"a group of {len(group.rids)} came back with {max(sessions) + 1} rollouts: this "
                f"trainer of verl does not read {ROLLOUTS}; use its v1 trainer, or the fixed "
                f"allocation with plan.rollouts_per_group at rollout.n"
            )
        for session, rid in enumerate(group.rids):
            attempts.append(_attempt(rid, sessions.get(session)))
    curriculum.observe(attempts)


def _attempt(rid: int, one: Trajectory | None) -> Attempt:
    if one is None:
        return Attempt(rid, end=ERROR)
    return Attempt(rid, one.reward, (Piece(one.tokens, one.version),), STOP)


def drop(curriculum: Curriculum, trajectories: Iterable[Trajectory]) -> None:
    """Tell a curriculum of groups that verl will not train on: they are observed and given up."""
    known = list(trajectories)
    report(curriculum, known)
    curriculum.lose(dict.fromkeys(one.group for one in known))


def end_step(
    curriculum: Curriculum, trajectories: Iterable[Trajectory], version: int, age_max: int
) -> dict[str, float]:
    """Take note of the batch that verl is about to train on; return metrics for its log.

    Args:
        curriculum: What is told.
        trajectories: The batch.
        version: Version of the weights in training.
        age_max: Versions that a group may be old and still come; -1 if nothing that is not in
            the batch comes any more.
    """
    curriculum.advance(version)
    report(curriculum, trajectories)
    groups = list(curriculum.run.open_groups.values())
    curriculum.lose(one.uid for one in groups if version - one.opened_at_version > age_max)
    batch = curriculum.batch()
    curriculum.advance(version + 1)  # what is fetched next is generated by the weights to come
    metrics = {f"sojourn/{name}": value for name, value in curriculum.metrics().items()}
    if batch is not None and batch.groups:
        mixed = sum(one.result.mixed for one in batch.groups)
        metrics["sojourn/mixed_groups_mean"] = mixed / len(batch.groups)
    return metrics


def estimate(
    curriculum: Curriculum, token_level_rewards: Any, response_mask: Any, index: Iterable[Any]
) -> tuple[Any, Any]:
    """Return advantages and returns as verl's estimators do, from groups of any sizes.

    Rows whose mask is empty (padding, or rejected by rollout correction) are no part of their
    group: they neither get an advantage nor move the baseline of the others.

    Args:
        curriculum: Whose subsample and advantage policies decide.
        token_level_rewards: Tensor of shape (rows, tokens).
        response_mask: Tensor of the same shape.
        index: Group of each row: verl's uid.

    Returns:
        Twice the same tensor of shape (rows, tokens).
    """
    scores = token_level_rewards.sum(dim=-1).tolist()
    counted = response_mask.sum(dim=-1).tolist()
    members: dict[Any, list[int]] = {}
    for at, uid in enumerate(index):
        members.setdefault(uid, []).append(at)
    groups = [[scores[at] if counted[at] else None for at in ats] for ats in members.values()]
    values = [0.0] * len(scores)
    for ats, advantages in zip(members.values(), curriculum.advantages(groups), strict=True):
        for at, advantage in zip(ats, advantages, strict=True):
            values[at] = advantage or 0.0
    spread = token_level_rewards.new_tensor(values).unsqueeze(-1) * response_mask
    return spread, spread


class NamedClient:
    """verl's client of its engines, for one rollout, with names of ours for its requests.

    verl gives every turn a random id, so that no one can name a request to stop it.

    Attributes:
        name: Name of the next request.
    """

    def __init__(self, client: Any, name: RequestName) -> None:
        self.name = name
        self._client = client
        self._server: Any = None
        self._running: dict[str, Any] = {}
        own = copy(client)
        own._vllm_request_id = self._next_name
        own._acquire_server = self._acquire
        own._release_server = client._release_server
        self._own = own

    def __getattr__(self, attribute: str) -> Any:
        """Return what else verl's client has."""
        return getattr(self._client, attribute)

    async def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate as verl's client does; its request id still keeps a session on its engine."""
        try:
            return await self._own.generate(*args, **kwargs)
        finally:
            self._running.clear()

    async def abort(self) -> list[str]:
        """Stop what is running, keep its output and the prefix cache; return what was stopped.

        verl looks the name up among vLLM's internal ids. vLLM makes those random, so verl finds
        ours only where `VLLM_DISABLE_REQUEST_ID_RANDOMIZATION=1` is set for its servers.
        """
        stopped = []
        for name, server in list(self._running.items()):
            answer = await server.abort_request.remote(name, reset_prefix_cache=False)
            if answer.get("aborted"):
                stopped.append(name)
        return stopped

    def _next_name(self, _: str) -> str:
        name = str(self.name)
        self.name = self.name._replace(turn=self.name.turn + 1)
        self._running[name] = self._server
        return name

    async def _acquire(self, request_id: str, **fields: Any) -> tuple[str, Any]:
        server_id, self._server = await self._client._acquire_server(request_id, **fields)
        return server_id, self._server


def named(client: Any, fields: Mapping[str, Any]) -> Any:
    """Return a client that names the requests of a rollout, where its columns say which it is.

    Raises:
        UserError: If this verl's client has no place to name requests.
    """
    if not {GROUP, RUN, "session_id"} <= set(fields):
        return client  # validation, or a trainer that does not number a prompt's rollouts
    if not hasattr(client, "_vllm_request_id"):
        raise UserError(
            "this version of verl names requests by itself (LLMServerClient has no "
            "_vllm_request_id, as that of 0.9.1 has): use one of its own agent loops"
        )
    name = RequestName(str(fields[RUN]), int(fields[GROUP]), int(fields["session_id"]))
    return NamedClient(client, name)
