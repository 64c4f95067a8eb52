"""How long things take, for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Such as "40 s", "12 min" or "2 h 10 min"."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def time_left(elapsed: float, done: float) -> str:
    """A clause such as ", about 12 min left" of work that has taken `elapsed` seconds for a share `done` of it; "" where
    that says nothing yet, or less than ten seconds are left.
    """
    if elapsed < 3 or not 0 < done < 1:
        return ""
    left = elapsed * (1 - done) / done
    return f", about {duration(left)} left" if left >= 10 else ""
