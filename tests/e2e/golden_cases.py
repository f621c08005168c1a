"""Handwritten exchanges, one for each thing that the edge does to bytes; they need no recordings."""

import json
from typing import Any, Final, NamedTuple

from tests.e2e.golden_wire import EVENTS, Reply

SECRET: Final = "fixture-credential-of-the-provider"
MODEL: Final = "hand-model"
EMBEDDER: Final = "hand-embedder"
KINDS: Final = {
    "hand-openai": "openai",
    "hand-mistral": "mistral",
    "hand-compatible": "openai-compatible",
    "hand-refusing": "openai",
    "hand-limiting": "openai",
}
"""The providers, each with its kind. One that refuses its credential serves one case only: the credential rests."""
FULL_NAMES: Final = [f"{provider}/{model}" for provider in KINDS for model in (MODEL, EMBEDDER)]
KEYS: Final[dict[str, dict[str, Any]]] = {
    "plain": {"models": FULL_NAMES},
    "capped": {"models": FULL_NAMES, "max_output_tokens": 50},
    "poor": {"models": FULL_NAMES, "limits": [{"unit": "usd", "window": "day", "cap": "0.000001"}]},
    "narrow": {"models": FULL_NAMES[:1]},
}
"""The agents' keys."""

HELLO: Final[dict[str, Any]] = {"messages": [{"role": "user", "content": "hello"}]}
USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
ANSWER: Final = (
    b'{ "id": "chatcmpl-1",\n  "object":"chat.completion", "created":1700000000, "model":"of-the-provider",'
    b' "choices":[{"index":0,"message":{"role":"assistant","content":"Gr\xc3\xbc\xc3\x9fe \\ud83d\\ude00"},'
    b'"logprobs":null,"finish_reason":"stop"}],\r\n'
    b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}, "unknown_to_us": 1.0e0 }\n'
)
IMAGE: Final = "data:image/png;base64,iVBORw0KGgo="
TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'The "weather".',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}
CALLED: Final[dict[str, Any]] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
    ],
}


class Case(NamedTuple):
    """A request of an agent, and the provider's reply if it gets that far."""

    name: str
    body: bytes = b""
    reply: Reply = Reply(ANSWER)
    path: str = "/v1/chat/completions"
    method: str = "POST"
    key: str = "plain"
    """One of KEYS; empty: no key is shown."""
    headers: bytes = b""
    chunked: bool = False
    """The body goes in chunks, which the edge reads another way than one with a length."""


def chat(provider: str = "hand-openai", **fields: Any) -> bytes:
    """Return the body of a chat."""
    return json.dumps({"model": f"{provider}/{MODEL}", **HELLO, **fields}, ensure_ascii=False).encode()


def stream(*chunks: str, usage: str = "", end: str = "data: [DONE]\n\n") -> bytes:
    """Return a provider's stream that writes each chunk; `usage` is a last chunk's, `end` comes after it."""
    head = '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m"'
    deltas = [
        f'{head},"choices":[{{"index":0,"delta":{{"content":"{chunk}"}},"finish_reason":null}}]}}' for chunk in chunks
    ]
    deltas.append(f'{head},"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}]}}')
    if usage:
        deltas.append(f'{head},"choices":[],"usage":{usage}}}')
    return ("".join(f"data: {delta}\n\n" for delta in deltas) + end).encode()


WORDS: Final = ("Grü", "ße ", "\\ud83d\\ude00")
STREAM: Final = stream(*WORDS, usage=json.dumps(USAGE))
USAGE_BESIDE_CHOICES: Final = STREAM.replace(
    b'"finish_reason":"stop"}]',
    b'"finish_reason":"stop"}], "usage":{"prompt_tokens":9, "completion_tokens":2}, "x":1.50',
)
FIRST_EVENTS: Final = b"".join(event + b"\n\n" for event in STREAM.split(b"\n\n")[:2])
STREAM_ERROR: Final = b'data: {"error":{"message":"Overloaded.","type":"server_error","code":"overloaded"}}\n\n'
ASKS_USAGE: Final[dict[str, Any]] = {"stream": True, "stream_options": {"include_usage": True}}

ANSWERED: Final = (
    Case("chat", chat()),
    Case("chat_of_a_compatible_provider", chat("hand-compatible", max_completion_tokens=7)),
    Case(
        "headers_of_the_agent",
        chat(),
        headers=b"user-agent: agent/1\r\ncookie: a=b\r\nopenai-organization: org\r\nx-forwarded-for: 192.0.2.1\r\n"
        b"accept-encoding: gzip\r\nOpenAI-Beta: x\r\n",
    ),
    Case("connection_close", chat(), headers=b"connection: close\r\n"),
    Case("body_in_chunks", chat(), chunked=True),
    Case("openrouter_path", chat(), path="/api/v1/chat/completions"),
    Case(
        "spelling_of_values",
        b'{"temperature" :0.70,"seed":-0, "top_p":1e0,"presence_penalty":1E-7,"logit_bias":{"50256":-100},"stop":null,'
        b'\n"metadata":{"z":1.0,"a":[1e2,12345678901234567890,true,null],"\\u0061b":"\\/"},"user":"\\u00e9\\t\\"",'
        b'"model":"hand-openai\\/hand-model", "messages":[{"content":"a\\u0000b","role":"user","name":null}]}',
    ),
    Case("unicode", chat(messages=[{"role": "user", "content": "Grüße, 世界 \U0001f600 \u2028 \x7f"}])),
    Case("fields_of_compatible_providers", chat("hand-compatible", top_k=40, min_p=0.1, reasoning={"effort": "low"})),
    Case("both_maxima", chat(max_tokens=20, max_completion_tokens=30)),
    Case("maximum_lowered", chat(max_tokens=5000), key="capped"),
    Case("two_completions", chat(n=2, max_completion_tokens=10, logprobs=True, top_logprobs=2)),
    Case(
        "tools",
        chat(
            messages=[*HELLO["messages"], CALLED, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}],
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "weather"}},
            parallel_tool_calls=False,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        ),
    ),
    Case(
        "image",
        chat(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    ],
                }
            ]
        ),
    ),
    Case(
        "embeddings",
        b'{"model":"hand-openai/hand-embedder","input":["one","zw\\u00f6lf"],"encoding_format":"float","dimensions":2}',
        Reply(b'{"object":"list","data":[{"index":0,"embedding":[0.10,-2e-3]}],"usage":{"prompt_tokens":4}}'),
        path="/v1/embeddings",
    ),
    Case("answer_with_the_credential", chat(), Reply(ANSWER.replace(b"of-the-provider", SECRET.encode()))),
    Case("answer_in_pieces", chat(), Reply(ANSWER, delivery="split")),
    Case("models", path="/v1/models", method="GET"),
    Case("models_of_a_narrow_key", path="/v1/models", method="GET", key="narrow"),
)

STREAMED: Final = (
    Case("stream", chat(stream=True), Reply(STREAM, content_type=EVENTS)),
    Case("stream_with_usage", chat(**ASKS_USAGE), Reply(STREAM, content_type=EVENTS)),
    Case("stream_bytewise", chat(stream=True), Reply(STREAM, content_type=EVENTS, delivery="bytewise")),
    Case("stream_with_usage_bytewise", chat(**ASKS_USAGE), Reply(STREAM, content_type=EVENTS, delivery="bytewise")),
    Case("stream_of_mistral", chat("hand-mistral", **ASKS_USAGE), Reply(STREAM, content_type=EVENTS)),
    Case("stream_lowered", chat(stream=True, max_tokens=5000), Reply(STREAM, content_type=EVENTS), key="capped"),
    Case("stream_body_in_chunks", chat(stream=True), Reply(STREAM, content_type=EVENTS), chunked=True),
    Case("stream_usage_beside_choices", chat(stream=True), Reply(USAGE_BESIDE_CHOICES, content_type=EVENTS)),
    Case(
        "stream_with_comments_and_crlf",
        chat(stream=True),
        Reply(b": ping\n\n" + STREAM.replace(b"\n", b"\r\n"), content_type=EVENTS, delivery="split"),
    ),
    Case("stream_without_done", chat(stream=True), Reply(stream(*WORDS, end=""), content_type=EVENTS)),
    Case("stream_cut", chat(stream=True), Reply(FIRST_EVENTS, content_type=EVENTS)),
    Case("stream_hung_up", chat(stream=True), Reply(STREAM[:200], content_type=EVENTS, cut=True)),
    Case("stream_with_an_error", chat(stream=True), Reply(FIRST_EVENTS + STREAM_ERROR, content_type=EVENTS)),
    Case("stream_that_breaks", chat(stream=True), Reply(STREAM[:200] + STREAM_ERROR, content_type=EVENTS)),
    Case("stream_that_is_an_error", chat(stream=True), Reply(STREAM_ERROR, content_type=EVENTS)),
)

PROVIDERS_ERROR: Final = b'{"error": {"message": "No.", "type": "invalid_request_error", "param": null, "code": 1}}'
PROVIDERS_ERRORS: Final = (
    Case("provider_400", chat(), Reply(PROVIDERS_ERROR, 400)),
    Case("provider_400_to_a_stream", chat(stream=True), Reply(PROVIDERS_ERROR, 400)),
    Case("provider_404_of_no_object", chat(), Reply(b"<html>not here</html>", 404, "text/html")),
    Case("provider_500", chat(), Reply(PROVIDERS_ERROR, 500)),
    Case("provider_401", chat("hand-refusing"), Reply(PROVIDERS_ERROR, 401)),
    Case("provider_429", chat("hand-limiting"), Reply(PROVIDERS_ERROR, 429, headers=b"retry-after: 30\r\n")),
    Case("provider_redirects", chat(), Reply(b"", 307, headers=b"location: http://127.0.0.1:9/\r\n")),
    Case("provider_answers_no_json", chat(), Reply(b"hello")),
)

REFUSED: Final = (
    Case("no_key", chat(), key=""),
    Case("duplicate_key", b'{"model":"hand-openai/hand-model","messages":[],"seed":1,"seed":2}'),
    Case("unknown_field", chat(surprise=1)),
    Case("web_search", chat(web_search_options={})),
    Case("no_json", b"{"),
    Case("wrong_type", chat(messages="hello")),
    Case("lone_surrogate", chat(messages=[{"role": "user", "content": "@"}]).replace(b"@", b"\\ud83d")),
    Case("image_that_is_none", chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}])),
    Case("unknown_model", chat("nobody")),
    Case("forbidden_model", chat("hand-mistral"), key="narrow"),
    Case("over_budget", chat(), key="poor"),
    Case("wrong_method", path="/v1/chat/completions", method="GET"),
    Case("unknown_route", chat(), path="/v1/completions"),
)

CASES: Final = (*ANSWERED, *STREAMED, *PROVIDERS_ERRORS, *REFUSED)
