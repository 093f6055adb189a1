"""A line now and then: how far, how fast, how long still."""

import logging
import time

log = logging.getLogger("randcond")


class Progress:
    """Logs ``what done/total, rate, time left`` at most every ``seconds``.

    Args:
        what: Name of the job, e.g. ``students/b-base``.
        total: Number of units in all.
        unit: Name of a unit, e.g. ``steps``.
        done: Units that were done before (a resumed job); they do not count for the rate.
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0, seconds: float = 20.0) -> None:
        self.what, self.total, self.unit, self.seconds = what, total, unit, seconds
        self._first = done
        self._start = self._last = time.monotonic()

    def at(self, done: int, note: str = "") -> None:
        """Say where we are, if it is time to (always at the end)."""
        now = time.monotonic()
        if now - self._last < self.seconds and done < self.total:
            return
        self._last = now
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = (self.total - done) / rate if rate > 0 else 0.0
        log.info(
            "%s: %d/%d %s, %.2f/s, %d:%02d left%s",
            *(self.what, done, self.total, self.unit, rate, left // 60, left % 60, f", {note}" if note else ""),
        )
