"""The request and the answer that every gateway in the bench is measured with, and an nginx that gives the answer."""

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
PID_FILE = "stub.pid"
NGINX = """daemon off; master_process off; worker_processes 1; pid {folder}/{pid_file};
error_log {folder}/stub.err warn;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; client_body_buffer_size 64k;
  default_type application/json; tcp_nodelay on; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{answer}'; }} }} }}
"""


def write(folder: Path, port: int) -> tuple[Path, Path]:
    """Write the request's body and nginx's configuration; return both paths."""
    body, conf = folder / "request.json", folder / "nginx.conf"
    body.write_text(json.dumps(REQUEST))
    conf.write_text(NGINX.format(folder=folder, pid_file=PID_FILE, port=port, answer=json.dumps(ANSWER)))
    return body, conf
