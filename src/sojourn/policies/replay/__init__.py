"""Replay slot: which trained groups are kept, to be trained again."""

from typing import Any, Final

from sojourn.policies.replay import dots, no_replay

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "dots": (dots.Config, dots.Dots),
    "no_replay": (no_replay.Config, no_replay.NoReplay),
}
