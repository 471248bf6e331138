"""The LiteLLM and LangChain callbacks, called as these libraries call them, without the libraries.

tests/client/sdks of the repository asks the libraries themselves.
"""

import asyncio
import copy
import gc
import importlib
import subprocess
import sys
import threading
import types
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from llmstatsd_client import Client

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


class Base:
    """In place of the base classes of the libraries."""


def fake(monkeypatch: pytest.MonkeyPatch, library: str, module: str, base: str, ours: str) -> Any:
    made = types.ModuleType(module)
    setattr(made, base, Base)
    for name in (library, *(module.rpartition(".")[0],), module):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module, made)
    name = f"llmstatsd_client.integrations.{ours}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    try:
        return importlib.import_module(name)
    finally:
        sys.modules.pop(name, None)


class Sent(list[dict[str, Any]]):
    """The events that were sent."""

    def send(self, **fields: Any) -> None:
        self.append(fields)

    def brief(self) -> list[tuple[Any, ...]]:
        return [(each["model"], each["operation"], each.get("error")) for each in self]


@pytest.fixture
def sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> Sent:
    made = Sent()
    monkeypatch.setattr(client, "send", made.send)
    return made


# LiteLLM


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = "litellm.integrations.custom_logger"
    return fake(monkeypatch, "litellm", module, "CustomLogger", "litellm")


@pytest.fixture
def callback(litellm: Any, client: Client, sent: Sent) -> Any:
    return litellm.Callback(client)


def details(**more: Any) -> dict[str, Any]:
    """What LiteLLM knows of a call, as far as the callback reads it."""
    return {"model": "m", "call_type": "completion", "litellm_params": {}, **more}


def before(callback: Any, kwargs: dict[str, Any]) -> None:
    callback.log_pre_api_call(model="m", messages=[], kwargs=kwargs)


def arguments(kwargs: dict[str, Any], response: object = None) -> dict[str, Any]:
    end = START + timedelta(seconds=2)
    return {"kwargs": kwargs, "response_obj": response, "start_time": START, "end_time": end}


def succeed(callback: Any, kwargs: dict[str, Any], response: object = None) -> None:
    callback.log_success_event(**arguments(kwargs, response or {"usage": USAGE}))


def fail(callback: Any, kwargs: dict[str, Any], error: BaseException) -> None:
    callback.log_failure_event(**arguments({**kwargs, "exception": error}))


def test_a_call_has_the_times_and_the_cost_that_litellm_tells(callback: Any, sent: Sent) -> None:
    kwargs = details(
        response_cost=0.25, stream=True, completion_start_time=START + timedelta(seconds=1)
    )
    before(callback, kwargs)
    succeed(callback, kwargs, {"model": "other", "usage": USAGE})
    assert sent == [
        {
            "model": "m",
            "operation": "chat",
            "duration_seconds": 2.0,
            "time_to_first_token_seconds": 1.0,
            "time_per_output_token_seconds": 0.25,
            "prompt_tokens": 11,
            "completion_tokens": 5,
            "tokens": 16,
            "cost_dollars": 0.25,
        }
    ]


def test_what_is_no_stream_has_no_first_token(callback: Any, sent: Sent) -> None:
    succeed(callback, details(completion_start_time=START + timedelta(seconds=2)))
    assert "time_to_first_token_seconds" not in sent[0]


def test_zero_usage_and_zero_cost_are_unknown(callback: Any, sent: Sent) -> None:
    zero = dict.fromkeys(USAGE, 0)
    succeed(callback, details(response_cost=0.0), {"usage": zero})
    assert sent == [{"model": "m", "operation": "chat", "duration_seconds": 2.0}]


def test_a_clock_that_was_set_back_gives_zero(callback: Any, sent: Sent) -> None:
    backward = {**arguments(details()), "end_time": START - timedelta(hours=1)}
    callback.log_success_event(**backward)
    assert sent[0]["duration_seconds"] == 0


def test_a_time_that_is_none_leaves_the_duration_to_the_client(callback: Any, sent: Sent) -> None:
    callback.log_success_event(**{**arguments(details()), "start_time": None})
    assert 0 <= sent[0]["duration_seconds"] < 2


@pytest.mark.parametrize("is_failure", [False, True], ids=["success", "failure"])
def test_both_handlers_of_one_call_count_once(
    callback: Any, sent: Sent, *, is_failure: bool
) -> None:
    kwargs = details(exception=TimeoutError())
    before(callback, kwargs)
    name = "log_failure_event" if is_failure else "log_success_event"
    getattr(callback, name)(**arguments(kwargs))
    asyncio.run(getattr(callback, f"async_{name}")(**arguments(copy.copy(kwargs))))
    assert sent.brief() == [("m", "chat", "timeout" if is_failure else None)]


def test_a_call_that_was_not_announced_counts_once(callback: Any, sent: Sent) -> None:
    kwargs = details()
    succeed(callback, kwargs)
    succeed(callback, kwargs)
    assert sent.brief() == [("m", "chat", None)]


def test_eight_threads_that_report_one_call_count_it_once(callback: Any, sent: Sent) -> None:
    calls = [details() for _ in range(200)]
    barrier = threading.Barrier(8)

    def report() -> None:
        barrier.wait()
        for kwargs in calls:
            succeed(callback, kwargs)

    threads = [threading.Thread(target=report) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == len(calls)


def test_copies_of_the_details_hold_one_attempt(callback: Any, sent: Sent) -> None:
    kwargs = details()
    before(callback, kwargs)
    for copied in (copy.deepcopy(kwargs), copy.copy(kwargs), kwargs):
        succeed(callback, copied)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("call_type", "operation"),
    [
        ("acompletion", "chat"),
        ("aresponses", "chat"),
        ("anthropic_messages", "chat"),
        ("atext_completion", "text_completion"),
        ("embedding", "embeddings"),
        ("agenerate_content_stream", "generate_content"),
        ("image_generation", "image_generation"),
    ],
)
def test_an_operation_is_named_as_opentelemetry_does(
    callback: Any, sent: Sent, call_type: str, operation: str
) -> None:
    succeed(callback, details(call_type=call_type))
    assert sent.brief() == [("m", operation, None)]


@pytest.mark.parametrize("call_type", ["acreate_file", "list_batches", None])
def test_what_is_no_call_of_a_model_is_not_counted(
    callback: Any, sent: Sent, call_type: object
) -> None:
    kwargs = details(call_type=call_type)
    before(callback, kwargs)
    succeed(callback, kwargs)
    fail(callback, kwargs, ValueError())
    assert sent == []


def test_an_answer_of_the_cache_is_not_counted(callback: Any, sent: Sent) -> None:
    succeed(callback, details(cache_hit=True))
    assert sent == []


@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
def test_the_routers_name_is_the_model(callback: Any, sent: Sent, place: str) -> None:
    succeed(callback, details(litellm_params={place: {"model_group": "public"}}))
    assert sent[0]["model"] == "public"


@pytest.mark.parametrize("params", [None, {}, {"metadata": None}, {"metadata": "text"}], ids=repr)
def test_metadata_of_any_shape_is_borne(callback: Any, sent: Sent, params: object) -> None:
    succeed(callback, details(litellm_params=params))
    assert sent.brief() == [("m", "chat", None)]


def test_only_the_answer_of_a_fallback_is_one(callback: Any, sent: Sent) -> None:
    params = {"metadata": {"attempted_fallbacks": 1}}
    fail(callback, details(litellm_params=params), TimeoutError())
    succeed(callback, details(litellm_params=params))
    assert [each.get("fallback") for each in sent] == [None, True]


def test_another_model_in_the_same_call_is_a_fallback(callback: Any, sent: Sent) -> None:
    kwargs = details()
    before(callback, kwargs)
    fail(callback, kwargs, TimeoutError())
    kwargs["model"] = "second"
    before(callback, kwargs)
    succeed(callback, kwargs)
    assert sent.brief() == [("m", "chat", "timeout"), ("second", "chat", None)]
    assert [each.get("fallback") for each in sent] == [None, True]


def test_a_retry_after_a_reported_failure_is_a_call_and_no_fallback(
    callback: Any, sent: Sent
) -> None:
    kwargs = details()
    before(callback, kwargs)
    fail(callback, kwargs, TimeoutError())
    before(callback, kwargs)
    succeed(callback, kwargs)
    assert sent.brief() == [("m", "chat", "timeout"), ("m", "chat", None)]
    assert "fallback" not in sent[1]


def test_a_retry_of_which_nothing_is_reported_is_not_guessed(callback: Any, sent: Sent) -> None:
    kwargs = details()
    before(callback, kwargs)
    fail(callback, kwargs, TimeoutError())
    before(callback, kwargs)
    del kwargs
    gc.collect()
    assert sent.brief() == [("m", "chat", "timeout")]


def test_a_fallback_after_failures_that_were_not_reported_is_one(callback: Any, sent: Sent) -> None:
    kwargs = details()
    before(callback, kwargs)
    fail(callback, kwargs, TimeoutError())
    before(callback, kwargs)
    kwargs["model"] = "second"
    before(callback, kwargs)
    succeed(callback, kwargs)
    assert sent.brief() == [("m", "chat", "timeout"), ("second", "chat", None)]
    assert [each.get("fallback") for each in sent] == [None, True]


def test_a_fallback_of_which_only_the_answer_is_reported_is_one(callback: Any, sent: Sent) -> None:
    kwargs = details()
    before(callback, kwargs)
    kwargs["model"] = "second"
    before(callback, kwargs)
    succeed(callback, kwargs)
    assert sent.brief() == [("second", "chat", None)]
    assert sent[0]["fallback"] is True


def test_a_fallback_that_fails_is_none(callback: Any, sent: Sent) -> None:
    kwargs = details()
    before(callback, kwargs)
    fail(callback, kwargs, TimeoutError())
    kwargs["model"] = "second"
    before(callback, kwargs)
    fail(callback, kwargs, TimeoutError())
    assert [each["model"] for each in sent] == ["m", "second"]
    assert not any("fallback" in each for each in sent)


def test_an_answer_of_the_model_asked_first_is_no_fallback(callback: Any, sent: Sent) -> None:
    kwargs = details()
    for model in ("m", "second"):
        kwargs["model"] = model
        before(callback, kwargs)
        fail(callback, kwargs, TimeoutError())
    kwargs["model"] = "m"
    before(callback, kwargs)
    succeed(callback, kwargs)
    assert len(sent) == 3
    assert not any("fallback" in each for each in sent)


def test_a_name_that_litellm_changes_on_the_way_is_no_fallback(callback: Any, sent: Sent) -> None:
    kwargs = details()
    before(callback, kwargs)
    kwargs["model"] = "deployment"
    succeed(callback, kwargs)
    assert "fallback" not in sent[0]


def test_another_deployment_of_one_name_is_no_fallback(callback: Any, sent: Sent) -> None:
    kwargs = details(litellm_params={"metadata": {"model_group": "public"}})
    before(callback, kwargs)
    fail(callback, kwargs, TimeoutError())
    kwargs["model"] = "second"
    before(callback, kwargs)
    succeed(callback, kwargs)
    assert sent.brief() == [("public", "chat", "timeout"), ("public", "chat", None)]
    assert "fallback" not in sent[1]


def test_a_retry_after_a_failure_that_was_not_reported_is_the_same_call(
    callback: Any, sent: Sent
) -> None:
    kwargs = details()
    before(callback, kwargs)
    before(callback, kwargs)
    succeed(callback, kwargs)
    del kwargs
    gc.collect()
    assert sent.brief() == [("m", "chat", None)]


def test_a_call_that_ends_without_a_word_is_cancelled(callback: Any, sent: Sent) -> None:
    kwargs = details()
    before(callback, kwargs)
    del kwargs
    gc.collect()
    assert sent.brief() == [("m", "chat", "cancelled")]


def test_a_stream_that_is_left_after_a_chunk_is_a_success(callback: Any, sent: Sent) -> None:
    kwargs = details(stream=True)
    callback.log_stream_event(**arguments(kwargs))  # not announced: nothing to tell
    before(callback, kwargs)
    callback.log_stream_event(**arguments(kwargs))
    del kwargs
    gc.collect()
    assert sent.brief() == [("m", "chat", None)]
    assert sent[0]["time_to_first_token_seconds"] >= 0


def test_a_chunk_that_is_reported_after_the_end_changes_nothing(callback: Any, sent: Sent) -> None:
    kwargs = details(stream=True)
    before(callback, kwargs)
    succeed(callback, kwargs)
    callback.log_stream_event(**arguments(kwargs))
    del kwargs
    gc.collect()
    assert sent.brief() == [("m", "chat", None)]
    assert "time_to_first_token_seconds" not in sent[0]


def test_a_broken_stream_has_what_it_used(callback: Any, sent: Sent) -> None:
    kwargs = details(combined_usage_object=type("Usage", (), USAGE)(), exception=ConnectionError())
    callback.log_failure_event(**arguments(kwargs))
    assert sent.brief() == [("m", "chat", "connection")]
    assert sent[0]["tokens"] == 16


def test_without_a_client_it_is_that_of_the_process(
    litellm: Any, client: Client, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmstatsd_client.default", lambda: client)
    succeed(litellm.Callback(), details())
    assert len(sent) == 1


# LangChain


@pytest.fixture
def langchain(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = "langchain_core.callbacks"
    return fake(monkeypatch, "langchain_core", module, "BaseCallbackHandler", "langchain")


@pytest.fixture
def handler(langchain: Any, client: Client, sent: Sent) -> Any:
    return langchain.Handler(client)


def start(handler: Any, run_id: UUID, model: str = "m", **more: Any) -> None:
    handler.on_chat_model_start(
        {}, [[]], run_id=run_id, metadata={"ls_model_name": model}, parent_run_id=None, **more
    )


def result(usage: object = None, output: object = None, name: str = "") -> Any:
    """LangChain's LLMResult with one message."""
    metadata = {"model_name": name} if name else {}
    message = types.SimpleNamespace(usage_metadata=usage, response_metadata=metadata)
    generation = types.SimpleNamespace(message=message)
    return types.SimpleNamespace(generations=[[generation]], llm_output=output)


def test_a_run_has_the_usage_of_its_message(handler: Any, sent: Sent) -> None:
    run_id = uuid4()
    start(handler, run_id)
    used = {
        "input_tokens": 11,
        "output_tokens": 5,
        "total_tokens": 16,
        "input_token_details": {"cache_read": 4},
    }
    handler.on_llm_end(result(used, {"token_usage": {"total_tokens": 99}}), run_id=run_id)
    del sent[0]["duration_seconds"]
    assert sent == [
        {
            "model": "m",
            "operation": "chat",
            "prompt_tokens": 11,
            "completion_tokens": 5,
            "tokens": 16,
            "cached_tokens": 4,
        }
    ]


@pytest.mark.parametrize(
    "output", [{"token_usage": USAGE}, {"usage": USAGE}], ids=["token_usage", "usage"]
)
def test_a_model_of_text_has_the_usage_of_its_output(
    handler: Any, sent: Sent, output: object
) -> None:
    run_id = uuid4()
    handler.on_llm_start({}, ["p"], run_id=run_id, invocation_params={"model_name": "m"})
    generation = types.SimpleNamespace(text="t")
    ended = types.SimpleNamespace(generations=[[generation]], llm_output=output)
    handler.on_llm_end(ended, run_id=run_id)
    assert sent.brief() == [("m", "text_completion", None)]
    assert sent[0]["tokens"] == 16


@pytest.mark.parametrize(
    ("serialized", "told"),
    [
        (None, {"metadata": {"ls_model_name": "m"}, "invocation_params": {"model": "n"}}),
        ({}, {"metadata": None, "invocation_params": {"model": "m", "model_name": "n"}}),
        ({}, {"invocation_params": {"model_name": "m"}}),
        ({}, {"invocation_params": {"model": 5, "model_id": "m"}}),
        ({"kwargs": {"model": "m"}}, {}),
    ],
    ids=["metadata", "model", "model_name", "model_id", "serialized"],
)
def test_a_model_is_found_where_its_class_puts_it(
    handler: Any, sent: Sent, serialized: object, told: dict[str, Any]
) -> None:
    run_id = uuid4()
    handler.on_chat_model_start(serialized, [[]], run_id=run_id, **told)
    handler.on_llm_end(result(name="of the answer"), run_id=run_id)
    assert sent.brief() == [("m", "chat", None)]


def test_a_model_that_nobody_named_is_that_of_the_answer(handler: Any, sent: Sent) -> None:
    run_id = uuid4()
    handler.on_chat_model_start(None, [[]], run_id=run_id)
    handler.on_llm_end(result(name="of the answer"), run_id=run_id)
    assert sent.brief() == [("of the answer", "chat", None)]


def test_an_end_is_counted_once_and_one_without_a_start_is_not(handler: Any, sent: Sent) -> None:
    run_id = uuid4()
    handler.on_llm_new_token("t", run_id=run_id)
    handler.on_llm_end(result(), run_id=run_id)
    start(handler, run_id)
    handler.on_llm_error(TimeoutError(), run_id=run_id)
    handler.on_llm_error(TimeoutError(), run_id=run_id)
    handler.on_llm_end(result(), run_id=run_id)
    assert sent.brief() == [("m", "chat", "timeout")]


def test_an_answer_without_generations_is_borne(handler: Any, sent: Sent) -> None:
    run_id = uuid4()
    start(handler, run_id)
    handler.on_llm_end(types.SimpleNamespace(generations=[], llm_output=None), run_id=run_id)
    assert sent.brief() == [("m", "chat", None)]


def test_an_answer_of_langchains_cache_is_not_counted(handler: Any, sent: Sent) -> None:
    run_id = uuid4()
    start(handler, run_id)
    handler.on_llm_end(result({"total_tokens": 16, "total_cost": 0}), run_id=run_id)
    del run_id
    gc.collect()
    assert sent == []


@pytest.mark.parametrize("name", ["on_llm_new_token", "on_stream_event"])
def test_a_closed_stream_with_a_token_is_a_success(handler: Any, sent: Sent, name: str) -> None:
    run_id = uuid4()
    start(handler, run_id)
    chunk = "t" if name == "on_llm_new_token" else {"event": "content-block-delta"}
    getattr(handler, name)(chunk, run_id=run_id)
    handler.on_llm_error(GeneratorExit(), run_id=run_id)
    assert sent.brief() == [("m", "chat", None)]
    assert sent[0]["time_to_first_token_seconds"] >= 0


def test_a_closed_stream_without_a_token_is_cancelled(handler: Any, sent: Sent) -> None:
    run_id = uuid4()
    start(handler, run_id)
    handler.on_stream_event({"event": "message-start"}, run_id=run_id)
    handler.on_llm_error(GeneratorExit(), run_id=run_id)
    assert sent.brief() == [("m", "chat", "cancelled")]


def test_a_run_whose_id_is_gone_is_cancelled(handler: Any, sent: Sent) -> None:
    run_id = uuid4()
    start(handler, run_id)
    assert sent == []
    del run_id
    gc.collect()
    assert sent.brief() == [("m", "chat", "cancelled")]


def test_a_run_that_ended_leaves_nothing(handler: Any, sent: Sent) -> None:
    for _ in range(100):
        run_id = uuid4()
        start(handler, run_id)
        handler.on_llm_end(result(), run_id=run_id)
    del run_id
    gc.collect()
    assert len(sent) == 100
    assert not handler._runs


def test_over_the_limit_the_oldest_run_is_given_up(
    handler: Any, langchain: Any, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(langchain, "RUNS_LIMIT", 3)
    ids = [uuid4() for _ in range(5)]
    for number, run_id in enumerate(ids):
        start(handler, run_id, f"m{number}")
    assert sent.brief() == [("m0", "chat", "cancelled"), ("m1", "chat", "cancelled")]
    for run_id in ids:
        handler.on_llm_end(result(), run_id=run_id)
    assert [each["model"] for each in sent[2:]] == ["m2", "m3", "m4"]


def test_eight_threads_share_one_handler(handler: Any, sent: Sent) -> None:
    def work() -> None:
        for _ in range(200):
            run_id = uuid4()
            start(handler, run_id)
            handler.on_llm_new_token("t", run_id=run_id)
            handler.on_llm_end(result(), run_id=run_id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sent.brief() == [("m", "chat", None)] * 1600


def test_a_handler_raises_nothing_into_langchain(langchain: Any) -> None:
    assert langchain.Handler.raise_error is False


def test_the_client_itself_imports_no_library() -> None:
    program = """
import sys, llmstatsd_client
loaded = {name.partition(".")[0] for name in sys.modules}
print(loaded & {"litellm", "langchain_core", "openai", "anthropic", "ollama"})
"""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "set()\n"
