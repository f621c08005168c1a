"""Retries: again after what may pass, never after what will not, with pauses that grow to a bound."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from keyforge.eventlog.retry import Backoff, repeating, retrying


class _FinalError(OSError):
    """An `OSError` that no attempt gets over."""


def scripted(*results: Exception | str) -> Callable[[], Awaitable[str]]:
    """Return an attempt that raises or returns these, one at a time."""
    left = list(results)

    async def attempt() -> str:
        result = left.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    return attempt


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; none takes any time."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return made


async def test_it_is_called_until_it_returns_with_pauses_up_to_the_bound(pauses: list[float]) -> None:
    faults = [OSError(str(number)) for number in range(4)]
    reported: list[Exception] = []
    found = await retrying(
        scripted(*faults, "done"), backoff=Backoff(0.1, 0.3), retry_on=OSError, failed=reported.append
    )
    assert found == "done"
    assert reported == faults
    assert pauses == [0.1, 0.2, 0.3, 0.3]


@pytest.mark.parametrize("fault", [ValueError("another kind"), _FinalError("of a kind that is raised")])
async def test_what_no_retry_helps_is_raised_at_once(pauses: list[float], fault: Exception) -> None:
    reported: list[Exception] = []
    with pytest.raises(type(fault)):
        await retrying(
            scripted(fault, "never"),
            backoff=Backoff(0.1, 0.1),
            retry_on=OSError,
            raise_on=_FinalError,
            failed=reported.append,
        )
    assert (reported, pauses) == ([], [])


async def test_at_its_time_the_last_error_is_raised(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Exception] = []
    faults = [OSError("before"), OSError("at its time")]
    times = iter([9.9, 10.0])
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: next(times))
    attempt = scripted(*faults, "never")
    with pytest.raises(OSError, match="at its time"):
        await retrying(attempt, backoff=Backoff(0.1, 0.1), retry_on=OSError, failed=reported.append, until_s=10.0)
    monkeypatch.undo()
    assert (reported, pauses) == (faults[:1], [0.1])


async def test_nobody_has_to_be_told_of_what_failed(pauses: list[float]) -> None:
    assert await retrying(scripted(OSError(), "done"), backoff=Backoff(0.1, 0.1), retry_on=OSError) == "done"
    assert pauses == [0.1]


async def test_a_step_is_repeated_whatever_it_raises_but_what_ends_it(pauses: list[float]) -> None:
    steps = scripted("done", ValueError("odd"), "done", _FinalError("end"))
    told: list[str] = []

    async def step() -> None:
        await steps()

    with pytest.raises(_FinalError):
        await repeating(step, pause_s=lambda: 2.0, failed=lambda fault: told.append(str(fault)), raise_on=_FinalError)
    assert (told, pauses) == (["odd"], [2.0, 2.0, 2.0])
