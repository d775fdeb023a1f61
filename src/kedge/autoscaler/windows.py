"""Averages of a signal over the last seconds, one bucket a second.

One series of buckets serves two windows, the stable and the short one. A window counts the seconds
since something was first written; after a pause as long as the window itself it begins anew, so
that what sleeps and wakes is judged by what came since.
"""

from __future__ import annotations

_DIGITS = 6


class Window:
    """What a series knows about one length of time over its buckets."""

    __slots__ = ("first", "length")

    def __init__(self, length: int) -> None:
        self.length = length
        self.first = 0


class Series:
    """One signal of one target, in seconds of some clock.

    Args:
        stable: the long window, in whole seconds.
        panic: the short window.
    """

    __slots__ = ("_buckets", "_last", "panic", "stable")

    def __init__(self, stable: int, panic: int) -> None:
        self.stable = Window(stable)
        self.panic = Window(panic)
        self._buckets = [0.0] * stable
        self._last: int | None = None

    def record(self, second: int, value: float) -> None:
        """Add to a second's bucket: values of several gateways add up."""
        if self._last is None or second > self._last:
            self._move(second)
        elif second <= self._last - self.stable.length:
            return
        for window in (self.stable, self.panic):
            window.first = min(window.first, second)
        self._buckets[second % self.stable.length] += value

    def cover(self, second: int) -> None:
        """Nothing but what was recorded happened up to and with `second`."""
        if self._last is None:
            self._move(second)
        elif second > self._last:
            self._clear(self._last + 1, second)
            self._last = second

    def forget(self) -> None:
        """Begin anew."""
        self._buckets = [0.0] * self.stable.length
        self._last = None

    @property
    def last(self) -> int | None:
        """The newest second that was written."""
        return self._last

    def has_data(self, now: int) -> bool:
        """Whether anything was written within the stable window."""
        return self._last is not None and now - self._last < self.stable.length

    def newest_load(self) -> int | None:
        """The newest second with anything in it."""
        if self._last is None:
            return None
        length = self.stable.length
        for second in range(self._last, self._last - length, -1):
            if self._buckets[second % length]:
                return second
        return None

    def is_zero(self) -> bool:
        return not any(self._buckets)

    def average(self, window: Window, now: int) -> float:
        """The mean of the seconds that the window has seen."""
        span = self._span(window, now)
        if span is None:
            return 0.0
        start, end = span
        count = max(1, min(end - window.first, end - start) + 1)
        return round(self._sum(start, end) / count, _DIGITS)

    def weighted_average(self, window: Window, now: int) -> float:
        """A mean in which each second weighs less than the one after it."""
        span = self._span(window, now)
        if span is None:
            return 0.0
        start, end = span
        smoothing = max(0.2, 1 - (1 - 0.9999) ** (1 / window.length))
        weight = smoothing * (1 - smoothing) ** max(0, now - end)
        total = 0.0
        for second in range(end, start - 1, -1):
            total += weight * self._buckets[second % self.stable.length]
            weight *= 1 - smoothing
        return round(total, _DIGITS)

    def _span(self, window: Window, now: int) -> tuple[int, int] | None:
        """The first and the last second that count."""
        if self._last is None or now - self._last >= window.length:
            return None
        return max(now, self._last) - window.length + 1, self._last

    def _sum(self, start: int, end: int) -> float:
        length = self.stable.length
        low, high = start % length, end % length
        if low <= high:
            return sum(self._buckets[low : high + 1])
        return sum(self._buckets[low:]) + sum(self._buckets[: high + 1])

    def _move(self, second: int) -> None:
        """Make `second` the newest, after a pause in which nobody looked."""
        for window in (self.stable, self.panic):
            if self._last is None or second - self._last >= window.length:
                window.first = second
        self._clear(second if self._last is None else self._last + 1, second)
        self._last = second

    def _clear(self, start: int, end: int) -> None:
        length = self.stable.length
        if end - start + 1 >= length:
            self._buckets = [0.0] * length
            return
        for second in range(start, end + 1):
            self._buckets[second % length] = 0.0
