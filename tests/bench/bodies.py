"""The request and the answer that every gateway in the bench is measured with, heads, and an nginx that gives them."""

import json
from pathlib import Path

MODEL = "gpt-4o-mini"
TEXT = ("You are a helpful assistant for a payments company. Summarise the following ticket in three points: " * 9)[
    :840
]
REQUEST = {
    "model": MODEL,
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}],
    "max_tokens": 128,
    "temperature": 0.2,
}
STREAM_REQUEST = {**REQUEST, "stream": True, "max_tokens": 1024}
STREAM_MODELS = ("hold", "first", "burst")
"""What tests.bench.stub understands."""
ANSWER = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1_763_860_000,
    "model": f"{MODEL}-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "The customer reports a duplicated charge on an invoice. " * 11,
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 187,
        "completion_tokens": 96,
        "total_tokens": 283,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}
CLIENT_HEAD = (
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate",
    "Connection: keep-alive",
    "User-Agent: AsyncOpenAI/Python 2.8.1",
    "X-Stainless-Lang: python",
    "X-Stainless-Package-Version: 2.8.1",
    "X-Stainless-OS: Linux",
    "X-Stainless-Arch: x64",
    "X-Stainless-Runtime: CPython",
    "X-Stainless-Runtime-Version: 3.12.3",
    "X-Stainless-Async: async:asyncio",
    "x-stainless-retry-count: 0",
    "x-stainless-read-timeout: 600",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "X-Forwarded-For: 10.0.3.17",
    "X-Forwarded-Proto: https",
)
"""What an SDK behind a proxy sends, with Host, Authorization, Content-Type and Content-Length 20 lines."""
PROVIDER_HEAD = (
    ("access-control-expose-headers", "X-Request-ID"),
    ("openai-organization", "fixture-organization"),
    ("openai-processing-ms", "412"),
    ("openai-project", "proj_fixture0123456789abcdef"),
    ("openai-version", "2020-10-01"),
    ("x-envoy-upstream-service-time", "431"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "10000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "9999741"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-reset-tokens", "1ms"),
    ("x-request-id", "req_fixture0123456789abcdef01234567"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ("x-content-type-options", "nosniff"),
    ("cf-cache-status", "DYNAMIC"),
    ("cf-ray", "9a3f0123456789ab-FRA"),
    ("alt-svc", 'h3=":443"; ma=86400'),
    ("set-cookie", "__cf_bm=fixture.0123456789abcdef; path=/; HttpOnly; Secure; SameSite=None"),
    ("set-cookie", "_cfuvid=fixture.0123456789abcdef; path=/; HttpOnly; Secure; SameSite=None"),
)
"""What a provider behind a content network answers, with the five that every server sends 25 lines."""
LONG_HEADS = "/long"
"""Below this path the upstream answers with PROVIDER_HEAD as well."""
PID_FILE = "stub.pid"
NGINX = """daemon off; master_process off; worker_processes 1; pid {folder}/{pid_file};
error_log {folder}/stub.err warn;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; client_body_buffer_size 64k;
  default_type application/json; tcp_nodelay on; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{answer}'; }}
  location {long}/ {{ {head} return 200 '{answer}'; }} }} }}
"""


def write(folder: Path, port: int) -> tuple[Path, Path]:
    """Write the request's body and nginx's configuration; return both paths."""
    body, conf = folder / "request.json", folder / "nginx.conf"
    body.write_text(json.dumps(REQUEST))
    head = " ".join(f"add_header {name} '{value}';" for name, value in PROVIDER_HEAD)
    named = {"pid_file": PID_FILE, "long": LONG_HEADS, "head": head, "answer": json.dumps(ANSWER)}
    conf.write_text(NGINX.format(folder=folder, port=port, **named))
    return body, conf
