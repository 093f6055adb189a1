"""Where a monotone function has a value."""

from collections.abc import Callable


def bisect(function: Callable[[float], float], ends: tuple[float, float], wanted: float) -> float:
    """The argument at which ``function`` is ``wanted``, as near as two neighbouring floats.

    Args:
        function: Monotone between the ends, rising or falling.
        ends: Where it is at most ``wanted``, and where at least.
        wanted: The value.
    """
    low, high = ends
    while (middle := low + 0.5 * (high - low)) not in (low, high):
        found = function(middle)
        if found == wanted:
            return middle
        low, high = (middle, high) if found < wanted else (low, middle)
    return min(low, high, key=lambda end: abs(function(end) - wanted))
