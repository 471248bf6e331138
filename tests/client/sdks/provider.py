"""A provider of models on loopback, as real SDKs see it: OpenAI's, Anthropic's and Ollama's HTTP.

The name of the model decides what happens:

- `status-401`, `-404`, `-429`, `-500`, `-503`, `-529`, `quota`, `too-long`: an error
- `silent`: no answer until the test is over
- `breaks`: a stream whose connection ends in the middle
- `error-event`: a stream with an error in the middle
- `slow-stream`: a stream that stands still in the middle until the test is over
- any other: an answer, as JSON or as a stream

The shapes are those of the providers' API references.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

HOLD_SECONDS: Final = 60.0
"""Longest that an answer is held back."""

Json = dict[str, Any]

_CODES: Final = {
    "quota": (429, "insufficient_quota"),
    "too-long": (400, "context_length_exceeded"),
}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class Provider:
    """The server; `url` is its root, `requests` are the paths asked so far."""

    PROMPT_TOKENS: ClassVar = 20
    COMPLETION_TOKENS: ClassVar = 5
    CACHED_TOKENS: ClassVar = 8
    CACHE_WRITES: ClassVar = 4
    """Anthropic's only; its `input_tokens` are the prompt without cache reads and writes."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.over = threading.Event()
        self._server = _Server(self)
        often = {"poll_interval": 0.05}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=often)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Let go of what is held back, and end."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        asked: Json = json.loads(self.rfile.read(int(self.headers["content-length"])))
        provider, model = self.server.provider, str(asked["model"])
        provider.requests.append(self.path)
        if model == "silent":
            provider.over.wait(HOLD_SECONDS)
            self.close_connection = True
            return
        api = _API_OF[self.path.partition("?")[0]]
        status, code = _CODES.get(model, (0, None))
        if model.startswith("status-"):
            status = int(model.removeprefix("status-"))
        if status:
            self._answer(status, api.error(status, code))
        elif asked.get("stream", api.streams_by_default) and api.can_stream:
            self._stream(api, asked)
        else:
            self._answer(200, api.answer(asked))

    def _answer(self, status: int, body: Json) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def _stream(self, api: "_Api", asked: Json) -> None:
        self.send_response(200)
        self.send_header("content-type", api.stream_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        chunks = list(api.chunks(asked))
        middle = len(chunks) // 2
        for number, chunk in enumerate(chunks):
            if number == middle and self._stopped_in_the_middle(api, asked["model"]):
                return
            self._write_chunk(api.framed(chunk))
        self._write_chunk(api.end)
        self.wfile.write(b"0\r\n\r\n")

    def _stopped_in_the_middle(self, api: "_Api", model: str) -> bool:
        if model == "error-event":
            self._write_chunk(api.framed(api.error_in_stream()))
            self.wfile.write(b"0\r\n\r\n")
        elif model == "slow-stream":
            self.server.provider.over.wait(HOLD_SECONDS)
        elif model != "breaks":
            return False
        self.close_connection = True
        return True

    def _write_chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()


class _Api:
    """One way of asking; `chunks` are those of the stream, with its usage where it is due."""

    can_stream = True
    streams_by_default = False
    stream_type = "text/event-stream"
    end = b""

    def answer(self, asked: Json) -> Json:
        """The whole answer."""
        raise NotImplementedError

    def chunks(self, asked: Json) -> Iterator[Json]:
        """The parts of the streamed answer."""
        raise NotImplementedError

    def framed(self, chunk: Json) -> bytes:
        """A part as it is on the wire."""
        name = f"event: {chunk['type']}\n" if "type" in chunk else ""
        return f"{name}data: {json.dumps(chunk)}\n\n".encode()

    def error(self, status: int, code: str | None) -> Json:
        """The body of an error."""
        kind = code or "an error"
        return {"error": {"message": f"this is {kind}", "type": code, "code": code, "param": None}}

    def error_in_stream(self) -> Json:
        """A part that is an error."""
        message = {"message": "the server had an error", "type": "server_error", "code": None}
        return {"error": {**message, "param": None}}


class _Chat(_Api):
    end = b"data: [DONE]\n\n"
    object = "chat.completion"

    def usage(self) -> Json:
        prompt, completion = Provider.PROMPT_TOKENS, Provider.COMPLETION_TOKENS
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": Provider.CACHED_TOKENS, "audio_tokens": 0},
        }

    def head(self, asked: Json, ending: str = "") -> Json:
        return {
            "id": "answer-1",
            "object": self.object + ending,
            "created": 1_700_000_000,
            "model": asked["model"],
        }

    def choice(self, text: str | None, *, is_part: bool) -> Json:
        message = {"role": "assistant", "content": text} if text else {}
        reason = None if is_part and text else "stop"
        return {"index": 0, "delta" if is_part else "message": message, "finish_reason": reason}

    def answer(self, asked: Json) -> Json:
        choices = [self.choice("Hello there", is_part=False)]
        return {**self.head(asked), "choices": choices, "usage": self.usage()}

    def chunks(self, asked: Json) -> Iterator[Json]:
        head = self.head(asked, ".chunk" if self.object.startswith("chat") else "")
        for text in ("Hello", " there", None):
            yield {**head, "choices": [self.choice(text, is_part=True)]}
        if (asked.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": self.usage()}


class _Completions(_Chat):
    object = "text_completion"

    def choice(self, text: str | None, *, is_part: bool) -> Json:
        reason = None if is_part and text else "stop"
        return {"index": 0, "text": text or "", "logprobs": None, "finish_reason": reason}


class _Embeddings(_Chat):
    can_stream = False

    def answer(self, asked: Json) -> Json:
        usage = {"prompt_tokens": Provider.PROMPT_TOKENS, "total_tokens": Provider.PROMPT_TOKENS}
        vector = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}
        return {"object": "list", "model": asked["model"], "data": [vector], "usage": usage}


class _Responses(_Api):
    def answer(self, asked: Json) -> Json:
        return self.response(asked, "completed")

    def response(self, asked: Json, status: str) -> Json:
        prompt, completion = Provider.PROMPT_TOKENS, Provider.COMPLETION_TOKENS
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": Provider.CACHED_TOKENS},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        }
        is_done = status == "completed"
        return {
            "id": "resp-1",
            "object": "response",
            "created_at": 1_700_000_000,
            "model": asked["model"],
            "status": status,
            "output": [self.message()] if is_done else [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage if is_done else None,
        }

    def message(self) -> Json:
        content = {"type": "output_text", "text": "Hello there", "annotations": []}
        about = {"id": "msg-1", "type": "message", "role": "assistant", "status": "completed"}
        return {**about, "content": [content]}

    def chunks(self, asked: Json) -> Iterator[Json]:
        place = {"item_id": "msg-1", "output_index": 0, "content_index": 0}
        text = {"type": "output_text", "text": "", "annotations": []}
        item = {**self.message(), "content": [], "status": "in_progress"}
        events: list[Json] = [
            {"type": "response.created", "response": self.response(asked, "in_progress")},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.content_part.added", **place, "part": text},
            {"type": "response.output_text.delta", **place, "delta": "Hello", "logprobs": []},
            {"type": "response.output_text.delta", **place, "delta": " there", "logprobs": []},
            {"type": "response.output_text.done", **place, "text": "Hello there", "logprobs": []},
            {"type": "response.output_item.done", "output_index": 0, "item": self.message()},
            {"type": "response.completed", "response": self.response(asked, "completed")},
        ]
        for number, event in enumerate(events):
            yield {**event, "sequence_number": number}

    def error_in_stream(self) -> Json:
        message = {"message": "the server had an error", "code": "server_error", "param": None}
        return {"type": "error", "sequence_number": 9, **message}


class _Messages(_Api):
    def answer(self, asked: Json) -> Json:
        return self.message(asked, [{"type": "text", "text": "Hello there"}], "end_turn")

    def message(self, asked: Json, content: list[Json], reason: str | None) -> Json:
        reads, writes = Provider.CACHED_TOKENS, Provider.CACHE_WRITES
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {
                "input_tokens": Provider.PROMPT_TOKENS - reads - writes,
                "cache_read_input_tokens": reads,
                "cache_creation_input_tokens": writes,
                "output_tokens": Provider.COMPLETION_TOKENS if reason else 1,
            },
        }

    def chunks(self, asked: Json) -> Iterator[Json]:
        yield {"type": "message_start", "message": self.message(asked, [], None)}
        yield {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        }
        for text in ("Hello", " there"):
            delta = {"type": "text_delta", "text": text}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": Provider.COMPLETION_TOKENS},
        }
        yield {"type": "message_stop"}

    def error(self, status: int, code: str | None) -> Json:
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        message = "prompt is too long: 9 tokens > 8 maximum" if status == 400 else "an error"
        return {"type": "error", "error": {"type": kind, "message": message}}

    def error_in_stream(self) -> Json:
        return {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


class _Ollama(_Api):
    streams_by_default = True
    stream_type = "application/x-ndjson"

    def framed(self, chunk: Json) -> bytes:
        return json.dumps(chunk).encode() + b"\n"

    def error(self, status: int, code: str | None) -> Json:
        return {"error": "an error"}

    def error_in_stream(self) -> Json:
        return {"error": "an error was encountered while running the model"}

    def part(self, text: str) -> Json:
        """The text of an answer, or of a part of it."""
        return {"message": {"role": "assistant", "content": text}}

    def answer(self, asked: Json) -> Json:
        return {**list(self.chunks(asked))[-1], **self.part("Hello there")}

    def chunks(self, asked: Json) -> Iterator[Json]:
        head = {"model": asked["model"], "created_at": "2026-01-01T00:00:00Z"}
        for text in ("Hello", " there"):
            yield {**head, **self.part(text), "done": False}
        yield {
            **head,
            **self.part(""),
            "done": True,
            "done_reason": "stop",
            "total_duration": 1_800_000_000,
            "load_duration": 500_000_000,
            "prompt_eval_count": Provider.PROMPT_TOKENS,
            "prompt_eval_duration": 120_000_000,
            "eval_count": Provider.COMPLETION_TOKENS,
            "eval_duration": 1_000_000_000,
        }


class _Generate(_Ollama):
    def part(self, text: str) -> Json:
        return {"response": text}


class _Embed(_Ollama):
    can_stream = False

    def answer(self, asked: Json) -> Json:
        return {
            "model": asked["model"],
            "embeddings": [[0.5, -0.5]],
            "total_duration": 14_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": Provider.PROMPT_TOKENS,
        }


_API_OF: Final[dict[str, _Api]] = {
    "/v1/chat/completions": _Chat(),
    "/v1/completions": _Completions(),
    "/v1/embeddings": _Embeddings(),
    "/v1/responses": _Responses(),
    "/v1/messages": _Messages(),
    "/api/chat": _Ollama(),
    "/api/generate": _Generate(),
    "/api/embed": _Embed(),
}
