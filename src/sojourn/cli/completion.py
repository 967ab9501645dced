"""What the shell offers when a name is completed; paths are typed whole, but for fleet files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """Return the models of the catalogue that begin so."""
    from sojourn.catalog import model_names

    return _beginning(model_names(), incomplete)


def gpus(incomplete: str) -> list[str]:
    """Return the GPUs of the catalogue that begin so."""
    from sojourn.catalog import gpu_names

    return _beginning(gpu_names(), incomplete)


def engine_parts(incomplete: str) -> list[str]:
    """Return the models and GPUs that begin so."""
    return [*models(incomplete), *gpus(incomplete)]


def recipe(incomplete: str) -> list[str]:
    """Return the recipes that begin so."""
    from sojourn.recipes import fleet_recipe_names, recipe_names

    return _beginning((*recipe_names(), *fleet_recipe_names()), incomplete)


def recipe_list(incomplete: str) -> list[str]:
    """Return lists that go on after the last comma with a recipe that is not in them yet."""
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in recipe(last) if name not in taken]


def hosts(incomplete: str) -> list[str]:
    """Return the hosts that begin so."""
    from sojourn.recipes.hosts import HOSTS

    return _beginning(HOSTS, incomplete)


def routers(incomplete: str) -> list[str]:
    """Return the routers that begin so."""
    from sojourn.policies.tables import SLOTS

    return _beginning(SLOTS["route"], incomplete)


def slots(incomplete: str) -> list[str]:
    """Return the slots that begin so, those above the replicas included."""
    from sojourn.policies.tables import SLOTS

    return _beginning(SLOTS, incomplete)


def parameters(incomplete: str) -> list[str]:
    """Return `slot.parameter=` of the policies of a fleet's slots, as far as they begin so."""
    from sojourn.policies.tables import ROLLOUT_SLOTS, SLOTS

    names = (
        f"{slot}.{field.name}="
        for slot, table in SLOTS.items()
        if slot not in ROLLOUT_SLOTS
        for config, _ in table.values()
        for field in fields(config)
    )
    return _beginning(dict.fromkeys(names), incomplete)


def toml_files(incomplete: str) -> list[str]:
    """Return the TOML files and folders that begin so."""
    from pathlib import Path

    folder = Path(incomplete if incomplete.endswith("/") else f"{incomplete}x").parent
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    names = [f"{one}/" if one.is_dir() else str(one) for one in found]
    return _beginning([one for one in names if one.endswith((".toml", "/"))], incomplete)
