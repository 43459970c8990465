"""How often what dies is started again."""

import time
from collections import deque
from collections.abc import Callable

from .config import RestartConfig, RestartPolicy
from .process import LaunchError


class RestartBudget:
    """Counts restarts against the policy."""

    def __init__(self, config: RestartConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._times: deque[float] = deque()
        self.total = 0

    def spend(self, why: str) -> None:
        """One restart more; raises LaunchError where the policy has none left."""
        if self._config.policy is RestartPolicy.NEVER:
            raise LaunchError(f"{why}; restart.policy is never: the system is ended")
        now = self._clock()
        while self._times and now - self._times[0] > self._config.within:
            self._times.popleft()
        if len(self._times) >= self._config.at_most:
            raise LaunchError(
                f"{why}; that is more than {self._config.at_most} deaths within {self._config.within:g} s "
                "(restart.at_most, restart.within): gave up, the system is ended"
            )
        self._times.append(now)
        self.total += 1
