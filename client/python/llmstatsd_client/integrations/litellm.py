"""A LiteLLM callback: one event for each call of a provider, however often LiteLLM reports it.

    import litellm
    from llmstatsd_client.integrations.litellm import Callback

    litellm.callbacks = [Callback()]

Importing this module imports LiteLLM.
"""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import llmstatsd_client
from llmstatsd_client.errors import classify
from llmstatsd_client.event import COUNTS, FIELDS
from llmstatsd_client.responses import part, usage

if TYPE_CHECKING:
    from typing_extensions import Self

    from llmstatsd_client.tracker import Client, Request

# Not an import statement: a type checker would read all of LiteLLM for this one class.
_CustomLogger: Any = importlib.import_module("litellm.integrations.custom_logger").CustomLogger

_ATTEMPT: Final = "llmstatsd_attempt"
"""Where the details that LiteLLM keeps of a call hold the attempt; both live equally long."""


def _operations() -> dict[str, str]:
    named = {
        "completion": "chat",
        "responses": "chat",
        "anthropic_messages": "chat",
        "embedding": "embeddings",
        "generate_content_stream": "generate_content",
    }
    same = """
        text_completion generate_content image_generation image_edit moderation
        transcription speech rerank
    """
    named.update((name, name) for name in same.split())
    return named | {f"a{name}": operation for name, operation in named.items()}


_OPERATIONS: Final = _operations()
"""`call_type` to operation. What is not here - files, batches, vector stores - is no model call."""


class _Attempt:
    """One try at a provider.

    A call may have several that follow each other: LiteLLM tells of them with the same details.
    A copy of the details holds the same attempt, so that it ends once.
    """

    __slots__ = ("first_model", "is_ended", "model", "request")

    def __init__(self, request: Request, model: object) -> None:
        self.request = request
        self.model = model
        self.first_model: object = None  # of the first try, when this is another
        self.is_ended = False

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def end(self, fields: dict[str, Any], error: str | None) -> None:
        """Send the event; the request sends only the first."""
        self.is_ended = True
        if not error and self.first_model not in (None, fields["model"]):
            fields["fallback"] = True
        self.request.set(**fields)
        self.request.finish(error)


class Callback(_CustomLogger):  # type: ignore[misc]
    """Counts the calls that LiteLLM makes, sync and async, its Router's and its proxy's too.

    `client` is what sends, by default the client of this process. A call that ends without a
    word, because it was cancelled or its stream was left, counts when LiteLLM lets go of it: as
    `cancelled`, or as a success when a chunk of a synchronous stream had come. An answer out of
    LiteLLM's cache is not a call.
    """

    def __init__(self, client: Client | None = None) -> None:
        super().__init__()
        self._client = client

    # What LiteLLM calls; it passes the arguments by these names.

    def log_pre_api_call(self, model: object, messages: object, kwargs: dict[str, Any]) -> None:
        """A request is about to be sent; again for another try of one call."""
        if kwargs.get("call_type") not in _OPERATIONS:
            return
        last = kwargs.get(_ATTEMPT)
        if last is None:
            attempt = kwargs[_ATTEMPT] = self._attempt(kwargs)
            attempt.request.set()  # from here on it counts, even if its end is never told
            return
        first_model = last.first_model or last.model
        if last.is_ended:
            # Of another try LiteLLM may never tell the end: then nothing is known, nothing is sent.
            last = kwargs[_ATTEMPT] = self._attempt(kwargs)
        last.first_model = first_model

    def log_stream_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        """A chunk of a synchronous stream; of an asynchronous one LiteLLM tells only the end."""
        attempt = kwargs.get(_ATTEMPT)
        if attempt is not None:
            attempt.request.token()

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        """The answer is whole."""
        self._end(kwargs, response_obj, start_time, end_time)

    def log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        """The call failed, maybe before anything was sent."""
        error = classify(kwargs.get("exception"))
        self._end(kwargs, kwargs.get("combined_usage_object"), start_time, end_time, error)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        """As `log_success_event`."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        """As `log_failure_event`."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)

    # Our part.

    def _attempt(self, kwargs: dict[str, Any]) -> _Attempt:
        client: Any = self._client or llmstatsd_client.default()
        model = _model(kwargs)
        request = client.request(model=model, operation=_OPERATIONS[kwargs["call_type"]])
        return _Attempt(request, model)

    def _end(
        self,
        kwargs: dict[str, Any],
        response: object,
        start: object,
        end: object,
        error: str | None = None,
    ) -> None:
        if kwargs.get("call_type") not in _OPERATIONS or kwargs.get("cache_hit") is True:
            return
        # One step: of two threads that report the end of one call, one ends it.
        attempt = kwargs.get(_ATTEMPT) or kwargs.setdefault(_ATTEMPT, self._attempt(kwargs))
        fields = _fields(kwargs, response, start, end)
        if not error and _is_fallback(kwargs):
            fields["fallback"] = True
        attempt.end(fields, error)


def _model(kwargs: dict[str, Any]) -> object:
    """The name that was asked: the Router's and the proxy's, else the one without provider."""
    groups = (part(each, "model_group") for each in _metadata(kwargs))
    return next(filter(None, groups), None) or kwargs.get("model")


def _is_fallback(kwargs: dict[str, Any]) -> bool:
    """Whether this is the Router's try at another model than the one asked first."""
    return any(part(each, "attempted_fallbacks") for each in _metadata(kwargs))


def _metadata(kwargs: dict[str, Any]) -> list[object]:
    # Some of the endpoints have one, some the other.
    params = kwargs.get("litellm_params")
    return [part(params, name) for name in ("metadata", "litellm_metadata")]


def _fields(kwargs: dict[str, Any], response: object, start: object, end: object) -> dict[str, Any]:
    fields: dict[str, Any] = usage(response)
    if not any(fields.get(field) for field in FIELDS[COUNTS]):
        # LiteLLM has zeros where the provider has told nothing.
        fields = {}
    fields["model"] = _model(kwargs)  # may be another than that of the last try
    # A cost that LiteLLM does not know is 0 or None.
    fields["cost_dollars"] = kwargs.get("response_cost") or None
    fields["duration_seconds"] = _seconds(start, end)
    if kwargs.get("stream") is True:
        first = kwargs.get("completion_start_time")
        fields["time_to_first_token_seconds"] = _seconds(start, first)
        fields["time_per_output_token_seconds"] = _per_token(first, end, fields)
    return {field: value for field, value in fields.items() if value is not None}


def _per_token(first: object, end: object, fields: dict[str, Any]) -> float | None:
    seconds, count = _seconds(first, end), fields.get("completion_tokens") or 0
    return seconds / (count - 1) if seconds is not None and count > 1 else None


def _seconds(start: Any, end: Any) -> float | None:
    """The time between two datetimes; None when there are not two. The clock may be set back."""
    try:
        between = end - start
    except TypeError:
        return None
    return max(0.0, between.total_seconds()) if isinstance(between, timedelta) else None
