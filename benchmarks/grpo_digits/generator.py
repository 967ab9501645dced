"""Continuous batching of the model in this process: a plain generator in place of an engine.

It is no vLLM, and its time is counted in steps: one step gives every seated rollout one token,
and takes in those that join. That count is the same on every machine. It does what the adapter
over vLLM does: rollouts by name, aborts that keep the output, versions on every token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.grpo_digits.digits import END, PAD
from benchmarks.grpo_digits.model import Model
from sojourn.decide.clock import Time
from sojourn.rollout.actions import Submit
from sojourn.rollout.events import LENGTH, STOP, Aborted, Event, Finished, Progress
from sojourn.rollout.model import Piece

NEVER = 1 << 30
STEP: Time = 1_000_000_000
"""Length of a step on the machine's clock: a millisecond, by definition."""


@dataclass(slots=True)
class Seat:
    """A submission that has a row of the batch, or waits for one.

    Attributes:
        submit: What was asked.
        ids: Prompt and prefix.
        reports: New tokens at which progress is told.
        told: New tokens told so far.
        starts: Weight versions of the new tokens, and where each begins.
        row: Its row; -1 for none yet.
    """

    submit: Submit
    ids: list[int]
    reports: deque[int]
    told: int = 0
    starts: list[tuple[int, int]] = field(default_factory=list)
    row: int = -1


class Generator:
    """Rows of a batch, the first `len(rows)` of them taken.

    Attributes:
        model, version: The weights in use.
        seats: Rollouts that run at once.
        waiting: Those without a row, in order.
        rows: Those with one, by row.
        steps: Steps so far.
        generated: Tokens so far.
        prefilled: Tokens of prompts and prefixes that were computed so far.
    """

    def __init__(self, model: Model, seats: int, seed: int) -> None:
        self.model = model
        self.seats = seats
        self.version = 0
        self.noise = torch.Generator().manual_seed(seed)
        self.waiting: deque[Seat] = deque()
        self.rows: list[Seat] = []
        self.steps = self.generated = self.prefilled = 0
        context = model.shape.context
        self.keys, self.values = model.new_cache(seats)
        self.tokens = torch.full((seats, context), PAD)
        self.logprobs = torch.zeros(seats, context)
        self.lengths = torch.zeros(seats, dtype=torch.long)
        self.starts = torch.zeros(seats, dtype=torch.long)
        self.ends = torch.zeros(seats, dtype=torch.long)
        self.marks = torch.full((seats,), NEVER)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.rows and not self.waiting

    @property
    def time(self) -> Time:
        """Now, on the machine's clock."""
        return self.steps * STEP

    def submit(self, submit: Submit, prompt: Sequence[int], sampled: int) -> None:
        """Take in a rollout that has `sampled` sampled tokens."""
        reports = deque(at - sampled for at in sorted(submit.report_at) if at > sampled)
        self.waiting.append(Seat(submit, [*prompt, *submit.prefix], reports))

    def abort(self, rid: int, attempt: int) -> list[Event]:
        """Stop a rollout and return what it had."""
        for seat in (*self.rows, *self.waiting):
            submit = seat.submit
            if (submit.rid, submit.attempt) == (rid, attempt):
                start = submit.prefix_tokens + seat.told
                event = Aborted(self.time, rid, attempt, start, self._pieces(seat))
                self._leave(seat)
                return [event]
        return []

    def load(self, model: Model, version: int) -> None:
        """Take new weights; what runs is computed anew under them."""
        self.model, self.version = model, version
        if self.rows:
            self._prefill(range(len(self.rows)))

    @torch.no_grad()
    def step(self) -> list[Event]:
        """Give every seated rollout a token; return what is to be told."""
        assert not self.is_idle
        self.steps += 1
        running = len(self.rows)
        drawn = []
        if running:
            taken = slice(0, running)
            places = self.lengths[taken] - 1
            last = self.tokens[torch.arange(running), places]
            drawn.append(self.model.extend(last, places, self.keys, self.values))
        joining = self._seat_waiting()
        if joining:
            drawn.append(self._prefill(joining))
        return self._sample(torch.cat(drawn))

    def _seat_waiting(self) -> range:
        """Give rows to those that wait; return which."""
        first = len(self.rows)
        while self.waiting and len(self.rows) < self.seats:
            seat = self.waiting.popleft()
            row = seat.row = len(self.rows)
            self.rows.append(seat)
            length = len(seat.ids)
            self.tokens[row, :length] = torch.tensor(seat.ids)
            self.lengths[row] = self.starts[row] = length
            self.ends[row] = length + seat.submit.max_new
            self.marks[row] = length + seat.reports[0] if seat.reports else NEVER
        return range(first, len(self.rows))

    @torch.no_grad()
    def _prefill(self, rows: range) -> Tensor:
        """Compute the whole context of some rows; return logits of their last tokens."""
        taken = slice(rows.start, rows.stop)
        lengths = self.lengths[taken]
        longest = int(lengths.max())
        cache = (self.keys[:, taken], self.values[:, taken])
        logits = self.model(self.tokens[taken, :longest].clamp(max=PAD), cache)
        self.prefilled += int(lengths.sum())
        return logits[torch.arange(len(rows)), lengths - 1]

    def _sample(self, logits: Tensor) -> list[Event]:
        running = len(self.rows)
        taken = slice(0, running)
        logits[:, PAD] = float("-inf")
        known = logits.log_softmax(dim=-1)
        uniform = torch.rand(known.shape, generator=self.noise).clamp_(1e-20)
        chosen = (known - (-uniform.log()).log()).argmax(dim=-1)  # Gumbel's way to sample
        at = torch.arange(running), self.lengths[taken]
        self.tokens[at] = chosen
        self.logprobs[at] = known[at[0], chosen]
        for seat in self.rows:
            if not seat.starts or seat.starts[-1][0] != self.version:
                seat.starts.append((self.version, self._made(seat)))
        self.lengths[taken] += 1
        self.generated += running
        ended = chosen == END
        over = ended | (self.lengths[taken] >= self.ends[taken])
        due = (self.lengths[taken] >= self.marks[taken]) & ~over
        events = [self._progress(self.rows[row]) for row in due.nonzero()[:, 0].tolist()]
        gone = [(self.rows[row], bool(ended[row])) for row in over.nonzero()[:, 0].tolist()]
        for seat, by_itself in gone:
            submit = seat.submit
            start = submit.prefix_tokens + seat.told
            reason = STOP if by_itself else LENGTH
            made = self._pieces(seat)
            events.append(Finished(self.time, submit.rid, submit.attempt, start, made, reason))
            self._leave(seat)
        return events

    def _made(self, seat: Seat) -> int:
        """Return the new tokens of a submission."""
        return int(self.lengths[seat.row] - self.starts[seat.row]) if seat.row >= 0 else 0

    def _progress(self, seat: Seat) -> Event:
        """Tell progress; the feature is the mean log-probability of the new tokens."""
        row, submit = seat.row, seat.submit
        begin, end = int(self.starts[row]), int(self.lengths[row])
        while seat.reports and seat.reports[0] <= end - begin:
            seat.reports.popleft()
        self.marks[row] = begin + seat.reports[0] if seat.reports else NEVER
        features = (float(self.logprobs[row, begin:end].mean()),)
        start = submit.prefix_tokens + seat.told
        made = self._pieces(seat)
        seat.told = end - begin
        return Progress(self.time, submit.rid, submit.attempt, start, made, features)

    def _pieces(self, seat: Seat) -> tuple[Piece, ...]:
        """Return what was not told, cut where the weights changed."""
        if not seat.starts:
            return ()
        count = self._made(seat)
        begin = int(self.starts[seat.row])
        ends = [start for _, start in seat.starts[1:]] + [count]
        made = []
        for (version, start), end in zip(seat.starts, ends, strict=True):
            start = max(start, seat.told)
            if start < end:
                place = slice(begin + start, begin + end)
                ids = tuple(self.tokens[seat.row, place].tolist())
                logprobs = tuple(self.logprobs[seat.row, place].tolist())
                made.append(Piece(end - start, version, ids, logprobs))
        return tuple(made)

    def _leave(self, seat: Seat) -> None:
        """Give up a row, which the last one moves to."""
        if seat.row < 0:
            self.waiting.remove(seat)
            return
        last = self.rows.pop()
        if last is not seat:
            hole, row = seat.row, last.row
            for tensor in (self.keys, self.values):
                tensor[:, hole] = tensor[:, row]
            every = (self.tokens, self.logprobs, self.lengths, self.starts, self.ends, self.marks)
            for tensor in every:
                tensor[hole] = tensor[row]
            last.row = hole
            self.rows[hole] = last
        self.tokens[len(self.rows)] = PAD
