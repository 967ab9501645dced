"""Names of requests that say which rollout they belong to.

A name is `RUN.gGROUP.sSAMPLE.tTURN`: made from numbers, never from text, and unique as long as a
run's name is. It has no underscore, because verl splits its keys at the first one.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sojourn.errors import UserError, shown

NAME: Final = re.compile(
    r"(?P<run>[A-Za-z0-9-]+)\.g(?P<group>\d+)\.s(?P<sample>\d+)\.t(?P<turn>\d+)"
)


class RequestName(NamedTuple):
    """The parts of a request's name.

    Attributes:
        run: Name of the training run.
        group: Number of the group.
        sample: Which of the group's rollouts, from 0.
        turn: Which submission of that rollout, from 0.
    """

    run: str
    group: int
    sample: int
    turn: int = 0

    def __str__(self) -> str:
        """Return the name as engines see it."""
        return f"{self.run}.g{self.group}.s{self.sample}.t{self.turn}"


def check_run(run: str) -> str:
    """Return the name of a run, or refuse one that cannot begin the names of requests."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", run):
        raise UserError(
            f"the run is called {shown(run)}; its name must be of letters, digits and hyphens"
        )
    return run


def parse(name: str) -> RequestName:
    """Return the parts of a name.

    Raises:
        UserError: If it is not one of ours.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise UserError(f"{shown(name)} is no request of a run; one is called RUN.g7.s0.t0")
    return RequestName(found["run"], int(found["group"]), int(found["sample"]), int(found["turn"]))
