"""Counts of decisions on vLLM's own `/metrics`, from the engine core's process.

Decisions are made in the engine core; `/metrics` is answered by the API server, another process.
The engine core writes its numbers into files of the format by which Prometheus' Python client
joins the processes of one server. Where vLLM joins processes itself (several API servers), the
files go into its folder. Elsewhere they go into a folder of our own, which `sojourn.vllm.plugin`
shows to the API server's registry. Files are written with plain writes, not through a memory map:
a full disk is then an error that can be caught, not a signal that ends the engine.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any, Final

from sojourn.vllm.leftovers import keep_mark

logger = getLogger("sojourn.vllm")

FOLDER_VARIABLE: Final = "SOJOURN_METRICS_DIR"
"""Environment variable that names our own folder, set by the plugin for the processes below it."""

JOINED_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of Prometheus' client for the folder that vLLM joins processes in."""

LABELS_MAX: Final = 64
"""Most label values of one metric; further ones are counted together as `other`."""

FAILURES_MAX: Final = 3
"""Failures to write, one after the other, after which no more is tried."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric on `/metrics`, there called `sojourn:` and its name here.

    Attributes:
        kind: `counter` or `gauge`.
        label: Its label beside `model_name` and `engine`; empty for none.
        text: What it counts.
    """

    kind: str
    label: str
    text: str


METRICS: Final[Mapping[str, Metric]] = {
    "decisions_total": Metric("counter", "", "Steps that the recipe planned or would have."),
    "decision_seconds_total": Metric("counter", "", "Seconds that deciding added to steps."),
    "steps_total": Metric("counter", "mode", "Steps by mode: act, shadow or off."),
    "pauses_total": Metric("counter", "", "Requests that lost their seat and kept their KV."),
    "resumes_total": Metric("counter", "", "Paused requests that got their seat back."),
    "drops_total": Metric("counter", "", "Requests whose KV was dropped, to be computed again."),
    "shed_total": Metric("counter", "reason", "Requests that were refused, by reason."),
    "differences_total": Metric("counter", "", "Steps that vLLM ran otherwise than planned."),
    "policy_errors_total": Metric("counter", "", "Failures of the recipe; the step was stock."),
    "identity_warnings_total": Metric("counter", "", "Client values that were ignored."),
    "paused_requests": Metric("gauge", "", "Requests without a seat whose KV is kept."),
    "held_requests": Metric("gauge", "", "Finished requests whose KV is held."),
    "held_blocks": Metric("gauge", "", "KV blocks held for finished requests."),
    "waiting_requests": Metric("gauge", "", "Requests that wait for a seat."),
    "mode": Metric("gauge", "mode", "1 for the mode in force: act, shadow or off."),
}
"""What can be published; a value of a metric with a label is named `metric:label value`."""

KINDS: Final[Mapping[str, str]] = {"counter": "counter", "gauge": "gauge_mostrecent"}
"""Kinds, and how the names of their files begin."""

_DOUBLES: Final = struct.Struct("dd")
_USED: Final = struct.Struct("i4x")


class ValueFile:
    """A file of numbers as Prometheus' client reads it.

    It begins with the number of bytes in use, in eight bytes. An entry is the length of its key,
    the key padded to a multiple of eight bytes with that length, its value, and a Unix time.

    Attributes:
        path: The file, which appears whole with its first values.
        image: Its content.
        places: Where the values of keys are in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.image = bytearray(_USED.pack(_USED.size))
        self.places: dict[str, int] = {}
        self.descriptor = -1

    def set(self, key: str, value: float, unix_seconds: float) -> None:
        """Set a value, to be written with the next `flush`."""
        place = self.places.get(key)
        if place is None:
            text = key.encode()
            padding = 8 - (len(text) + 4) % 8
            self.image += struct.pack("i", len(text)) + text + b" " * padding
            place = self.places[key] = len(self.image)
            self.image += bytes(_DOUBLES.size)
            _USED.pack_into(self.image, 0, len(self.image))
        _DOUBLES.pack_into(self.image, place, value, unix_seconds)

    @property
    def removed(self) -> bool:
        """Whether somebody removed the file, which a writer does not notice by itself."""
        return self.descriptor >= 0 and not os.fstat(self.descriptor).st_nlink

    def flush(self) -> None:
        """Write the file; nothing is written while it has no entry."""
        if not self.places:
            return
        if self.removed:
            self.close()
        if self.descriptor < 0:
            self._create()
        elif os.pwrite(self.descriptor, self.image, 0) != len(self.image):
            raise OSError(f"only a part of {self.path} could be written")

    def _create(self) -> None:
        # A reader fails on an empty file, so it gets its name when it is whole.
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if os.pwrite(descriptor, self.image, 0) != len(self.image):
                raise OSError(f"only a part of {self.path} could be written")
            part.replace(self.path)
        except OSError:
            os.close(descriptor)
            part.unlink(missing_ok=True)
            raise
        self.descriptor = descriptor

    def close(self) -> None:
        """Close the file, which stays for the last reading."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class DecisionMetrics:
    """The numbers of one engine, on their way to `/metrics`.

    Attributes:
        folder: Where the files go; None if nothing would read them, and nothing is published.
        mark: Descriptor by which the folder is known to be in use; None for none.
        labels: Labels that every metric has.
        files: One for counters and one for gauges.
        failures: Failures to write since the last success.
        keys: File and key of each name published so far; None for what is no metric.
        values: The last value of each name.
        seen: Names of each metric so far.
        others: Values by name that share the label `other`, by key.
    """

    def __init__(self, folder: Path | None, model_name: str, engine: int) -> None:
        self.folder = folder
        self.mark: int | None = None
        self.labels = {"model_name": model_name, "engine": str(engine)}
        self.failures = 0
        self.files = {
            kind: ValueFile((folder or Path()) / f"{name}_sojourn{os.getpid()}e{engine}.db")
            for kind, name in KINDS.items()
        }
        self.keys: dict[str, tuple[ValueFile, str] | None] = {}
        self.values: dict[str, float] = {}
        self.seen: dict[str, int] = {}
        self.others: dict[str, dict[str, float]] = {}

    @classmethod
    def of(cls, vllm_config: Any) -> DecisionMetrics:
        """Return the metrics of an engine, labelled as vLLM labels its own."""
        return cls(
            folder_in_force(),
            str(vllm_config.model_config.served_model_name),
            int(vllm_config.parallel_config.data_parallel_index),
        )

    def publish(self, counters: Mapping[str, float]) -> None:
        """Publish numbers, cumulative for counters; never raises.

        Args:
            counters: Values by name; `shed_total:queue full` is the `shed_total` with that reason.
        """
        if self.folder is None or self.failures >= FAILURES_MAX:
            return
        try:
            self._write(counters)
            self.mark = keep_mark(self.mark, self.folder)
            self.failures = 0
        except Exception as error:  # the engine must go on, whatever a metric does
            self.failures += 1
            if self.failures == FAILURES_MAX:
                logger.warning("sojourn: no more metrics are published: %s", error)

    def _write(self, counters: Mapping[str, float]) -> None:
        now = time.time()
        changed: dict[str, ValueFile] = {}
        for name, value in counters.items():
            if self.values.get(name) == value:
                continue
            place = self.keys[name] if name in self.keys else self._place(name)
            self.values[name] = value
            if place is None:
                continue
            file, key = place
            if key in self.others:
                self.others[key][name] = value
                value = sum(self.others[key].values())
            file.set(key, value, now)
            changed[file.path.name] = file
        for name in [n for n in self.values if n.startswith("mode:") and n not in counters]:
            self._clear(name, now, changed)
        for file in self.files.values():
            if file.path.name in changed or file.removed:
                file.flush()

    def _clear(self, name: str, now: float, changed: dict[str, ValueFile]) -> None:
        """Set the mode that is no longer in force to 0."""
        place = self.keys[name]
        if place is not None and self.values[name] != 0.0:
            place[0].set(place[1], 0.0, now)
            changed[place[0].path.name] = place[0]
            self.values[name] = 0.0

    def _place(self, name: str) -> tuple[ValueFile, str] | None:
        """Return the file and the key of a value that is new; None if it is no metric of ours."""
        metric, _, value = name.partition(":")
        known = METRICS.get(metric)
        if known is None:
            logger.warning("sojourn: %r is no metric and is not published", name)
            self.keys[name] = None
            return None
        self.seen[metric] = self.seen.get(metric, 0) + 1
        is_other = self.seen[metric] > LABELS_MAX
        value = "other" if is_other else value
        labels = {**self.labels, known.label: value} if known.label else self.labels
        family = f"sojourn:{metric.removesuffix('_total')}"
        key = json.dumps([family, f"sojourn:{metric}", labels, known.text], sort_keys=True)
        if is_other:
            self.others.setdefault(key, {})
        self.keys[name] = (self.files[known.kind], key)
        return self.keys[name]

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()
        if self.mark is not None:
            os.close(self.mark)
            self.mark = None


def folder_in_force() -> Path | None:
    """Return the folder whose files `/metrics` shows; None if the plugin was not loaded."""
    named = os.environ.get(JOINED_VARIABLE) or os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else None


class FolderCollector:
    """What an API server's registry asks for the metrics in our own folder.

    Attributes:
        folder: The folder, which need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> list[Any]:
        """Return the metrics of all engines; none if there are none or they cannot be read."""
        if not self.folder.is_dir():
            return []
        from prometheus_client import multiprocess

        joined: Any = multiprocess.MultiProcessCollector  # it has no annotations
        try:
            return list(joined(None, str(self.folder)).collect())
        except Exception:  # vLLM's own metrics must still be shown
            logger.exception("sojourn: the metrics in %s cannot be read", self.folder)
            return []
