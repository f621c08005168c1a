"""A token bucket: how often something may be done."""

import msgspec


class TokenBucket(msgspec.Struct):
    """`burst` at once, then `per_s` a second. Times are monotonic seconds, passed in."""

    per_s: float
    burst: float
    left: float
    at: float

    @classmethod
    def full(cls, per_s: float, burst: float, now: float) -> "TokenBucket":
        """Return a full bucket."""
        return cls(per_s, burst, burst, now)

    def take(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        self.left = min(self.burst, self.left + max(0.0, now - self.at) * self.per_s)
        self.at = now
        if self.left < 1:
            return (1 - self.left) / self.per_s
        self.left -= 1
        return 0.0
