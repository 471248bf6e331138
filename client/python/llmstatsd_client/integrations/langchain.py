"""A LangChain callback handler: one event for each call of a chat model or an LLM.

    from llmstatsd_client.integrations.langchain import Handler

    chain.invoke(question, {"callbacks": [Handler()]})

Importing this module imports langchain-core.
"""

from __future__ import annotations

import importlib
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import llmstatsd_client
from llmstatsd_client.responses import part, usage

if TYPE_CHECKING:
    from uuid import UUID

    from llmstatsd_client.tracker import Client, Request

# Not an import statement: a type checker would read all of LangChain for this one class.
_BaseCallbackHandler: Any = importlib.import_module("langchain_core.callbacks").BaseCallbackHandler

RUNS_LIMIT: Final = 10_000
"""Most runs under way that one handler follows; with one more the oldest is given up."""

_Runs = OrderedDict[int, "tuple[Request, weakref.ref[UUID]]"]


class Handler(_BaseCallbackHandler):  # type: ignore[misc]
    """Counts every run of a chat model or an LLM; chains, agents, tools, retrievers are not.

    `client` is what sends, by default the client of this process. One handler serves any number
    of runs, threads and event loops.

    LangChain tells nothing of some runs that end: of a cancelled `ainvoke`, for one. A run counts
    as given up when LangChain has let go of its id, or when it is the oldest of more than
    `RUNS_LIMIT`: as `cancelled`, or as a success when a part of the answer had come. An answer out
    of LangChain's cache is not a call.
    """

    # LangChain 1.7 keeps other handlers from seeing `on_llm_start` when one of all is inline.
    run_inline = False
    raise_error = False

    def __init__(self, client: Client | None = None) -> None:
        super().__init__()
        self._client = client
        # By the number: the id itself is to be let go.
        self._runs: _Runs = OrderedDict()

    def on_chat_model_start(
        self, serialized: object, messages: object, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """A chat model is about to be called."""
        self._start(run_id, serialized, kwargs, "chat")

    def on_llm_start(
        self, serialized: object, prompts: object, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """A model that completes text is about to be called."""
        self._start(run_id, serialized, kwargs, "text_completion")

    def on_llm_new_token(self, token: object, *, run_id: UUID, **kwargs: Any) -> None:
        """A chunk of a stream is here."""
        self._token(run_id)

    def on_stream_event(self, event: object, *, run_id: UUID, **kwargs: Any) -> None:
        """As `on_llm_new_token`, in the third version of LangChain's events."""
        if part(event, "event") == "content-block-delta":
            self._token(run_id)

    def on_llm_end(self, response: object, *, run_id: UUID, **kwargs: Any) -> None:
        """The answer is whole."""
        request = self._pop(run_id)
        if request is None or _is_cached(response):
            return
        request.set(**_tokens(response))
        request.usage(_message(response))  # a model that nobody named
        request.finish()

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The call failed, or its stream was closed before the end."""
        request = self._pop(run_id)
        if request is None:
            return
        request.set(**_tokens(kwargs.get("response")))
        if isinstance(error, GeneratorExit):
            request.abandon()
        else:
            request.finish(error)

    def _start(self, run_id: UUID, serialized: object, kwargs: dict[str, Any], kind: str) -> None:
        client: Any = self._client or llmstatsd_client.default()
        request: Request = client.request(model=_model(serialized, kwargs), operation=kind)
        runs, number = self._runs, run_id.int
        runs[number] = request, weakref.ref(run_id, lambda _: _give_up(runs.pop(number, None)))
        if len(runs) > RUNS_LIMIT:
            _give_up(runs.popitem(last=False)[1])

    def _token(self, run_id: UUID) -> None:
        run = self._runs.get(run_id.int)
        if run is not None:
            run[0].token()

    def _pop(self, run_id: UUID) -> Request | None:
        run = self._runs.pop(run_id.int, None)
        return run[0] if run else None


def _give_up(run: tuple[Request, object] | None) -> None:
    if run is not None:
        run[0].abandon()


def _is_cached(response: object) -> bool:
    """Whether LangChain's cache gave the answer: then it says that it costs nothing."""
    cost = part(part(_message(response), "usage_metadata"), "total_cost")
    return type(cost) is int and cost == 0


def _model(serialized: object, kwargs: dict[str, Any]) -> object:
    """The name that was asked, where LangChain or the model's class puts it."""
    invocation = kwargs.get("invocation_params")
    found = [part(kwargs.get("metadata"), "ls_model_name")]
    for holder in (invocation, part(serialized, "kwargs")):
        found += [part(holder, name) for name in ("model", "model_name", "model_id")]
    return next((name for name in found if isinstance(name, str) and name), None)


def _message(response: object) -> object:
    """The message of the first generation; the others of one run tell the same usage."""
    generations = part(response, "generations")
    try:
        return part(generations[0][0], "message")
    except (TypeError, IndexError):
        return None


def _tokens(response: object) -> dict[str, Any]:
    """The usage of the message, or of the whole output where models have it."""
    output = part(response, "llm_output")
    for holder in (_message(response), part(output, "token_usage"), part(output, "usage")):
        fields: dict[str, Any] = usage(holder)
        fields.pop("model", None)
        if fields:
            return fields
    return {}
