"""Recorded provider traffic, replayed: an upstream that returns the recorded answer to the recorded request.

The folder holds `<provider>.jsonl.gz`, an object a line: host, path, method, request, status, content_type,
response_kind (`json`, or `text` for a raw SSE stream), response. It is not part of the project: without it the tests
that need it are skipped, with that reason.
"""

import gzip
import threading
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

import msgspec

FOLDER_VARIABLE: Final = "KEYFORGE_RECORDINGS"
ROUTES: Final = ("/chat/completions", "/embeddings")
BODY_BYTES_MAX: Final = 1024 * 1024


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange."""

    id: str
    host: str
    path: str
    method: str
    status: int
    content_type: str | None
    response_kind: str
    request: Any
    response: Any

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.request.get("model")) if isinstance(self.request, dict) else ""

    @property
    def is_stream(self) -> bool:
        """Whether the answer is an SSE stream."""
        return self.response_kind == "text" and "event-stream" in (self.content_type or "")

    @property
    def body(self) -> bytes:
        """The answer's body."""
        if isinstance(self.response, str):
            return self.response.encode()
        return msgspec.json.encode(self.response)

    def is_openai_shaped(self) -> bool:
        """Whether it is a chat completion or an embedding in OpenAI's shape, with a request that can be sent again."""
        return self.method == "POST" and self.path.endswith(ROUTES) and isinstance(self.request, dict)


def load(folder: Path, *, only_openai_shaped: bool = True) -> Iterator[tuple[str, Recording]]:
    """Yield (provider, recording) for every line of every file, by name of file and in order."""
    decode = msgspec.json.Decoder(Recording).decode
    for file in sorted(folder.glob("*.jsonl.gz")):
        provider = file.name.partition(".")[0]
        with gzip.open(file, "rb") as lines:
            for line in lines:
                recording = decode(line)
                if recording.is_openai_shaped() or not only_openai_shaped:
                    yield provider, recording


class Replay:
    """Serves recordings on loopback: `with Replay(recordings) as replay:`, then call `replay.url`.

    A request is answered with its recording: found by everything that was recorded of its body (fields that a gateway
    adds do not matter), else by route and model, in recorded order, each once and the last repeatedly. No match: 404.
    """

    def __init__(self, recordings: list[Recording]) -> None:
        self._queues: dict[tuple[str, str], deque[Recording]] = {}
        for recording in recordings:
            self._queues.setdefault((_route(recording.path), recording.model), deque()).append(recording)
        self._lock = threading.Lock()
        replay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one segment: else each answer waits for a delayed acknowledgement

            def do_POST(self) -> None:
                length = min(int(self.headers.get("content-length", "0")), BODY_BYTES_MAX)
                replay._answer(self, self.rfile.read(length))

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="replay", daemon=True)

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def choose(self, path: str, body: bytes) -> Recording | None:
        """Return the recording that answers a request."""
        request = msgspec.json.decode(body)
        with self._lock:
            queue = self._queues.get((_route(path), str(request.get("model"))))
            if not queue:
                return None
            same = [
                recording for recording in queue if _holds(_with_one_cap(request), _with_one_cap(recording.request))
            ]
            recording = max(same, key=lambda one: (one.request == request, len(one.request))) if same else queue[0]
            if len(queue) > 1:
                queue.remove(recording)
            return recording

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        recording = self.choose(handler.path, body)
        answer = recording.body if recording else b'{"error":{"message":"Nothing recorded.","type":"not_found"}}'
        handler.send_response(recording.status if recording else 404)
        handler.send_header("content-type", (recording and recording.content_type) or "application/json")
        handler.send_header("content-length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)


def _route(path: str) -> str:
    return next((route for route in ROUTES if path.partition("#")[0].endswith(route)), path)


def _holds(request: Any, recorded: Any) -> bool:
    """Return whether a request contains everything that the recorded one contained, and that says anything."""
    if isinstance(recorded, dict) and isinstance(request, dict):
        return all(
            _holds(request.get(name), value) or (request.get(name) is None and _says_nothing(name, value))
            for name, value in recorded.items()
            if name != "stream_options"
        )
    if isinstance(recorded, list) and isinstance(request, list) and len(recorded) == len(request):
        return all(map(_holds, request, recorded))
    return bool(request == recorded)


def _with_one_cap(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request with its cap by one of its two names: a gateway uses the one that a provider obeys."""
    if "max_completion_tokens" not in request:
        return request
    return {("max_tokens" if name == "max_completion_tokens" else name): value for name, value in request.items()}


def _says_nothing(name: str, value: Any) -> bool:
    """Return whether a field means the same where it is absent: a gateway may leave it out."""
    return value is None or value is False or value in ([], {}) or (name == "n" and value == 1)
