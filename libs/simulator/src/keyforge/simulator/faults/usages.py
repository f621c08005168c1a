"""Usage in the spellings of providers, true and otherwise; the books have what is true."""

from typing import Any, Final

from keyforge.simulator.faults.fault import DONE, HEY, STOP, USAGE, USED, ProviderFault, chunk, usage_of

_ANTHROPIC: Final = {"input_tokens": 25, "output_tokens": 9}
_ZERO: Final = usage_of(0, 0, total_tokens=0)
_CACHED: Final = {
    "openai": usage_of(total_tokens=34, prompt_tokens_details={"cached_tokens": 16}),
    "deepseek": usage_of(total_tokens=34, prompt_cache_hit_tokens=16, prompt_cache_miss_tokens=9),
    "mistral": usage_of(total_tokens=34, num_cached_tokens=16),
    "moonshot": usage_of(total_tokens=34, cached_tokens=16),
    "anthropic": {
        "input_tokens": 9,
        "cache_read_input_tokens": 16,
        "cache_creation_input_tokens": 0,
        "output_tokens": 9,
    },
}
_UNSEEN: Final = usage_of(25, 4, total_tokens=34)


def _at_the_end(about: str, usage: Any, **fields: Any) -> ProviderFault:
    """The same usage in a whole answer and in the last chunk."""
    return ProviderFault(about=about, usage=usage, events=(HEY, STOP, chunk(choices=[], usage=usage), DONE), **fields)


def _choice(usage: object) -> dict[str, Any]:
    return {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}


USAGES: Final = {
    "usage-none": ProviderFault(about="no usage", usage=None, events=(HEY, STOP, DONE)),
    "usage-zeros": ProviderFault(
        about="zeros in a chunk after the true usage", events=(HEY, STOP, USED, chunk(choices=[], usage=_ZERO), DONE)
    ),
    "usage-all-zeros": _at_the_end("zeros and nothing else", _ZERO),
    "usage-after-done": ProviderFault(about="the usage after `[DONE]`", events=(HEY, STOP, DONE, USED)),
    "usage-floats": _at_the_end("whole numbers as floats", usage_of(25.0, 9.0, total_tokens=34.0)),
    "usage-strings": _at_the_end("numbers as strings", usage_of("25", "9", total_tokens="34")),
    "usage-anthropic": _at_the_end("Anthropic's names", _ANTHROPIC),
    "usage-anthropic-start": ProviderFault(
        about="Anthropic's names, the input at the start and the output at the end",
        usage=_ANTHROPIC,
        events=(
            {**HEY, "usage": {"input_tokens": 25, "output_tokens": 1}},
            STOP,
            chunk(choices=[], usage={"output_tokens": 9}),
            DONE,
        ),
    ),
    "usage-in-choice": ProviderFault(
        about="in a choice (Moonshot)", usage=USAGE, events=(HEY, chunk(choices=[_choice(USAGE)]), DONE)
    ),
    "usage-groq": ProviderFault(
        about="in `x_groq` (Groq)", events=(HEY, {**STOP, "x_groq": {"id": "req", "usage": USAGE}}, DONE)
    ),
    "usage-with-choice": ProviderFault(
        about="in the chunk that ends the choice", events=(HEY, {**STOP, "usage": USAGE}, DONE)
    ),
    "usage-cumulative": ProviderFault(
        about="in each chunk, what was used so far (xAI, Perplexity)",
        events=(
            {**HEY, "usage": usage_of(25, 1, total_tokens=26)},
            {**chunk(" you"), "usage": usage_of(25, 5, total_tokens=30)},
            {**STOP, "usage": USAGE},
            DONE,
        ),
    ),
    "usage-before-end": ProviderFault(
        about="in a chunk before the words end", events=(chunk("h"), USED, chunk("ey"), STOP, DONE)
    ),
    "usage-unseen": _at_the_end("a total larger than its parts: reasoning that is not shown (Gemini)", _UNSEEN),
    "usage-total-alone": _at_the_end("a total and nothing else (embeddings)", {"total_tokens": 34}),
    "usage-negative": _at_the_end("a negative number", usage_of(-1, 9)),
    "usage-text": _at_the_end("text that is no number", usage_of("many", "few")),
    **{
        f"usage-cached-{name}": _at_the_end(f"cached tokens under the name of {name}", usage)
        for name, usage in _CACHED.items()
    },
}
