"""The simulator's table of faults: names, numbers in names, what fills templates, and the page that shows it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyforge.simulator.faults.fault import SECONDS_MAX
from keyforge.simulator.faults.replay import replay
from keyforge.simulator.faults.table import FAULTS, UnknownFaultError, find, markdown
from keyforge.simulator.script import ANSWERING, BY_MODEL

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "simulator.md"


def test_the_page_shows_the_table() -> None:
    assert markdown() in PAGE.read_text(), "put the output of `python -m keyforge.simulator --faults` into the page"


def test_a_fault_is_no_model_that_answers() -> None:
    assert not {f"sim-fault-{name}" for name in FAULTS} & BY_MODEL.keys()
    assert not any(name.startswith("sim-fault") for name in ANSWERING)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("429-seconds", 7),
        ("429-seconds-17", 17),
        ("429-seconds-1.5", 1.5),
        ("silence-head-0.25", 0.25),
        ("stream-large", 1_500_000),
        ("stream-large-2000", 2000),
        ("first-vllm-429", 0),
        ("401", 0),
    ],
)
def test_a_name_may_end_in_a_number(name: str, number: float) -> None:
    assert find(name).number == number


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("429-second", "no fault '429-second'. Did you mean sim-fault-429-seconds?"),
        ("401-3", "no fault '401-3'"),
        ("429-seconds-", "no fault"),
        ("429-seconds--1", "no fault"),
        ("429-seconds-1e3", "no fault"),
        ("429-seconds-nan", "no fault"),
        ("429-seconds-\u0663", "no fault"),
        (f"silence-head-{SECONDS_MAX + 1:.0f}", "must be at most 3600"),
        ("stream-large-100000000", "must be at most 67108864"),
        ("", "no fault ''"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, why: str) -> None:
    with pytest.raises(UnknownFaultError, match=why):
        find(name)


WAITS = {
    "429-seconds-17": ("retry-after", "17"),
    "429-fraction": ("retry-after", "1.5"),
    "429-date-90": ("retry-after", "Fri, 27 Nov 2026 12:01:30 GMT"),
    "429-ms-2.5": ("retry-after-ms", "2500"),
    "429-ms-azure": ("x-ms-retry-after-ms", "7000"),
    "429-reset-openai": ("x-ratelimit-reset-requests", "1m12s"),
    "429-reset-openai-360": ("x-ratelimit-reset-requests", "6m0s"),
    "429-reset-groq": ("x-ratelimit-reset-tokens", "7.66s"),
    "429-reset-cerebras-3": ("x-ratelimit-reset-tokens-minute", "3"),
    "429-reset-anthropic-30": ("anthropic-ratelimit-requests-reset", "2026-11-27T12:00:30.000Z"),
    "429-reset-epoch-30": ("x-ratelimit-reset", "1795780830"),
    "429-reset-openrouter-45": ("", '"X-RateLimit-Reset":"1795780845000"'),
    "429-retry-info": ("", '"retryDelay":"38.2s"'),
    "429-words-openai": ("", "Please try again in 7m12s."),
    "429-words-gemini-20": ("", "Please retry in 20s."),
    "429-words-azure-20": ("", "Please retry after 20 seconds."),
    "503-30": ("retry-after", "30"),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_is_spelled_as_its_provider_spells_it(name: str) -> None:
    sent = replay(find(name), stream=False, embeddings=None, now=NOW)
    header, value = WAITS[name]
    assert sent.body is not None
    if header:
        assert sent.headers[header] == value
    else:
        assert value in sent.body.decode()


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_can_be_sent(name: str) -> None:
    """Whole, as a stream and to embeddings: no template is left, and JSON is JSON."""
    for stream in (False, True):
        sent = replay(find(name), stream=stream, embeddings=None, now=NOW)
        if sent.body is None:
            text = b"".join(event for event in sent.events if isinstance(event, bytes))
        else:
            text = sent.body
            if sent.content_type == "application/json" and "content-encoding" not in sent.headers:
                json.loads(text.removeprefix(b"\xef\xbb\xbf"))
        assert b"$" not in text or "content-encoding" in sent.headers
        assert FAULTS[name].about or name.split("-", maxsplit=1)[0] in ("200", "first", "later", "line")


def test_embeddings_have_their_own_form_and_refuse_a_fault_of_completions() -> None:
    sent = replay(find("usage-total-alone"), stream=False, embeddings=2, now=NOW)
    body = json.loads(sent.body or b"")
    assert (body["object"], len(body["data"]), body["usage"]) == ("list", 2, {"total_tokens": 34})
    assert replay(find("200-gemini"), stream=False, embeddings=1, now=NOW).body == sent_whole("200-gemini")
    with pytest.raises(UnknownFaultError, match="one of chat completions"):
        replay(find("finish-error"), stream=False, embeddings=1, now=NOW)


def sent_whole(name: str) -> bytes | None:
    return replay(find(name), stream=False, embeddings=None, now=NOW).body
