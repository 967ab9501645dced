"""Links between replicas: transfers that share ports, and what a cut does to them.

A transfer leaves by its source's port and enters by its target's; both are shared equally by the
transfers in them, and a link as a whole may have a bound too. A transfer goes at the least of
its shares: never faster than max-min fairness would let it, and a change touches only those that
share a port with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from sojourn.decide.clock import SECOND, Time, to_seconds
from sojourn.errors import UserError
from sojourn.fleet.design import Link
from sojourn.sim.workload import LONGEST

Port = tuple[str, int | str]
"""("out", replica), ("in", replica) or ("link", name of a pair of groups)."""


@dataclass(slots=True, eq=False)
class Stream:
    """A transfer under way.

    Attributes:
        ports: Ports that it goes through, with the bytes a second of each.
        left: Bytes to go at `since`.
        since: When `left` was settled.
        rate: Bytes a second at present; 0 while its link is cut.
        done: Called when the last byte has arrived.
        serial: Counts its calls: only the newest is valid.
        pair: Names of the groups at its ends, in alphabetical order.
        number: Its place among all transfers.
        ended, cancelled: Whether it is over, and whether because nobody wants it any more.
    """

    ports: dict[Port, float]
    left: float
    since: Time
    done: Callable[[Time], None]
    pair: tuple[str, str]
    number: int
    rate: float = 0.0
    serial: int = 0
    ended: bool = False
    cancelled: bool = False


@dataclass(slots=True)
class Links:
    """All transfers of a fleet.

    Attributes:
        call: Asks for something to be done at a moment.
        inside: Transfers in each port, in the order in which they began.
        severed: Pairs of groups whose link is cut, and how often.
        begun: Transfers so far.
    """

    call: Callable[[Time, Callable[[Time], None]], None]
    inside: dict[Port, dict[int, Stream]] = field(default_factory=dict)
    severed: dict[tuple[str, str], int] = field(default_factory=dict)
    begun: int = 0

    def start(
        self,
        source: tuple[int, str],
        target: tuple[int, str],
        link: Link,
        load: tuple[int, int],
        now: Time,
        done: Callable[[Time], None],
    ) -> Stream:
        """Begin a transfer between two replicas, each with its group's name.

        `load` is its bytes and the blocks that they are copied in. It is in the ports from the end
        of its latency on.
        """
        size, blocks = load
        pair = (min(source[1], target[1]), max(source[1], target[1]))
        ports: dict[Port, float] = {
            ("out", source[0]): link.bytes_per_second,
            ("in", target[0]): link.bytes_per_second,
        }
        if link.total_bytes_per_second:
            ports["link", "\0".join(pair)] = link.total_bytes_per_second
        begin = now + link.latency + link.setup + blocks * link.block_setup
        _check_end(begin, pair)
        self.begun += 1
        stream = Stream(ports, float(size), begin, done, pair, self.begun)
        self.call(begin, lambda at: self._enter(stream, at))
        return stream

    def cancel(self, stream: Stream, now: Time) -> None:
        """End a transfer that is no longer wanted; nothing is called."""
        stream.ended = stream.cancelled = True
        self._leave(stream, now)

    def cut(self, pair: tuple[str, str], now: Time) -> None:
        """Stop all transfers between two groups until `mend`."""
        self.severed[pair] = self.severed.get(pair, 0) + 1
        self._refresh_pair(pair, now)

    def mend(self, pair: tuple[str, str], now: Time) -> None:
        """Let transfers between two groups go on."""
        self.severed[pair] -= 1
        if not self.severed[pair]:
            del self.severed[pair]
        self._refresh_pair(pair, now)

    def _refresh_pair(self, pair: tuple[str, str], now: Time) -> None:
        found = {
            one.number: one
            for streams in self.inside.values()
            for one in streams.values()
            if one.pair == pair
        }
        for stream in found.values():
            self._refresh(stream, now)

    def _enter(self, stream: Stream, now: Time) -> None:
        if stream.ended:
            return
        for port in stream.ports:
            self.inside.setdefault(port, {})[stream.number] = stream
        self._settle_sharers(stream, now)

    def _leave(self, stream: Stream, now: Time) -> None:
        for port in stream.ports:
            streams = self.inside.get(port, {})
            streams.pop(stream.number, None)
            if not streams:
                self.inside.pop(port, None)
        self._settle_sharers(stream, now)

    def _settle_sharers(self, stream: Stream, now: Time) -> None:
        """Give a new rate to all in the ports of a transfer."""
        sharers = {
            key: one for port in stream.ports for key, one in self.inside.get(port, {}).items()
        }
        for one in sharers.values():
            self._refresh(one, now)

    def _refresh(self, stream: Stream, now: Time) -> None:
        """If its rate is another, settle the bytes that have gone, and see when the rest has."""
        shares = [rate / len(self.inside[port]) for port, rate in stream.ports.items()]
        rate = 0.0 if stream.pair in self.severed else min(shares)
        if rate == stream.rate:
            return
        stream.left = max(stream.left - stream.rate * (now - stream.since) / SECOND, 0.0)
        stream.since = now
        stream.rate = rate
        stream.serial += 1
        if not rate:
            return
        serial = stream.serial
        end = now + ceil(stream.left / rate * SECOND)
        _check_end(end, stream.pair)
        self.call(end, lambda at: self._arrived(stream, serial, at))

    def _arrived(self, stream: Stream, serial: int, now: Time) -> None:
        if stream.ended or serial != stream.serial:
            return
        stream.ended = True
        self._leave(stream, now)
        stream.done(now)


def _check_end(time: Time, pair: tuple[str, str]) -> None:
    """Refuse a transfer that would not end while anything can be simulated."""
    if time >= LONGEST:
        raise UserError(
            f"a transfer between {pair[0]} and {pair[1]} would not end within "
            f"{to_seconds(LONGEST) / 86400:.0f} days of simulated time, the most that can be "
            "simulated: are the rates and times of the link right?"
        )
