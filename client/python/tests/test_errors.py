"""Exceptions as the SDKs have them, rebuilt by name: none of them is imported."""

import asyncio
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmstatsd_client import ERROR_TYPES, classify


def named(names: str, **attributes: Any) -> Exception:
    """An exception of the class of the first name, each further name the base of the one before."""
    base: type[Exception] = Exception
    for name in reversed(names.split()):
        base = type(name, (base,), {})
    error = base("message")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


OPENAI_STATUS = "APIStatusError APIError OpenAIError"
ANTHROPIC_STATUS = "APIStatusError APIError AnthropicError"
ANTHROPIC_SERVER = f"InternalServerError {ANTHROPIC_STATUS}"

CLASSES = [
    ("timeout", "APITimeoutError APIConnectionError APIError OpenAIError"),
    ("timeout", "Timeout APITimeoutError APIConnectionError APIError OpenAIError"),
    ("timeout", "ReadTimeout TimeoutException TransportError RequestError HTTPError"),
    ("timeout", "ConnectTimeout ConnectionError Timeout RequestException"),
    ("timeout", "ConnectTimeoutError ConnectionError BotoCoreError"),
    ("timeout", "ServerTimeoutError ServerConnectionError ClientConnectionError ClientError"),
    ("timeout", f"GatewayTimeoutError {ANTHROPIC_SERVER}"),
    ("timeout", f"DeadlineExceededError {ANTHROPIC_SERVER}"),
    ("timeout", "DeadlineExceeded GatewayTimeout ServerError GoogleAPICallError"),
    ("timeout", "ModelTimeoutException ClientError"),
    ("timeout", "SoftTimeLimitExceeded"),
    ("connection", "APIConnectionError APIError OpenAIError"),
    ("connection", "ConnectError NetworkError TransportError RequestError HTTPError"),
    ("connection", "RemoteProtocolError ProtocolError TransportError RequestError HTTPError"),
    ("connection", "NameResolutionError NewConnectionError ConnectTimeoutError TimeoutError"),
    ("connection", "ClientConnectorDNSError ClientConnectorError ClientConnectionError"),
    ("connection", "EndpointConnectionError ConnectionError BotoCoreError"),
    ("connection", "ChunkedEncodingError RequestException"),
    ("rate_limit", f"RateLimitError {OPENAI_STATUS}"),
    ("rate_limit", f"RampLimitExceededError RateLimitError {ANTHROPIC_STATUS}"),
    ("rate_limit", "ResourceExhausted TooManyRequests ClientError GoogleAPICallError"),
    ("rate_limit", "TooManyRequestsError ApiError"),
    ("rate_limit", "ThrottlingException ClientError"),
    ("rate_limit", "ModelRateLimitError ModelError LangChainException"),
    ("quota", f"PaymentRequiredError {ANTHROPIC_STATUS}"),
    ("quota", f"EnforcedSpendLimitReachedError RateLimitError {ANTHROPIC_STATUS}"),
    ("quota", "BudgetExceededError"),
    ("auth", f"AuthenticationError {OPENAI_STATUS}"),
    ("auth", f"OAuthError AuthenticationError {OPENAI_STATUS}"),
    ("auth", "UnauthorizedError ApiError"),
    ("auth", "NoCredentialsError BotoCoreError"),
    ("permission", f"PermissionDeniedError {OPENAI_STATUS}"),
    ("permission", "PermissionDenied Forbidden ClientError GoogleAPICallError"),
    ("permission", "AccessDeniedException ClientError"),
    ("not_found", f"NotFoundError {OPENAI_STATUS}"),
    ("not_found", "ResourceNotFoundException ClientError"),
    ("context_length", f"ContextWindowExceededError BadRequestError {OPENAI_STATUS}"),
    ("context_length", "ContextOverflowError ModelError LangChainException"),
    ("content_filter", f"ContentPolicyViolationError BadRequestError {OPENAI_STATUS}"),
    ("content_filter", "ContentFilterFinishReasonError OpenAIError"),
    ("invalid_request", f"BadRequestError {OPENAI_STATUS}"),
    ("invalid_request", f"UnprocessableEntityError {OPENAI_STATUS}"),
    ("invalid_request", f"RequestTooLargeError {ANTHROPIC_STATUS}"),
    ("invalid_request", "InvalidArgument BadRequest ClientError GoogleAPICallError"),
    ("invalid_request", "ValidationException ClientError"),
    ("overloaded", f"OverloadedError {ANTHROPIC_SERVER}"),
    ("overloaded", f"ServiceUnavailableError {ANTHROPIC_SERVER}"),
    ("overloaded", "ServiceUnavailable ServerError GoogleAPICallError"),
    ("server_error", f"InternalServerError {OPENAI_STATUS}"),
    ("server_error", "APIError OpenAIError"),
    ("server_error", "ServerError APIError"),
    ("server_error", "ResponseError"),
    ("server_error", "SDKError MistralError"),
    ("invalid_response", "APIResponseValidationError APIError OpenAIError"),
    ("invalid_response", "LengthFinishReasonError OpenAIError"),
    ("invalid_response", "ValidationError ValueError"),
    ("invalid_response", "OutputParserException ValueError LangChainException"),
    ("invalid_response", "ContentTypeError ClientResponseError ClientError"),
    ("cancelled", "Cancelled"),
    ("cancelled", f"ClientClosedRequestError {ANTHROPIC_STATUS}"),
    ("other", "OpenAIError"),
    ("other", "SomethingElse"),
]


@pytest.mark.parametrize(("expected", "names"), CLASSES, ids=[names for _, names in CLASSES])
def test_a_class_is_known_by_its_names(expected: str, names: str) -> None:
    assert classify(named(names)) == expected
    assert classify(type(named(names))) == expected


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("timeout", TimeoutError()),
        ("timeout", asyncio.TimeoutError()),
        ("connection", ConnectionResetError()),
        ("connection", BrokenPipeError()),
        ("connection", socket.gaierror()),
        ("cancelled", asyncio.CancelledError()),
        ("cancelled", KeyboardInterrupt()),
        ("cancelled", GeneratorExit()),
        ("invalid_response", json.JSONDecodeError("m", "d", 0)),
        ("other", ValueError()),
        ("other", FileNotFoundError()),
        ("other", PermissionError()),
        ("other", ModuleNotFoundError()),
    ],
    ids=repr,
)
def test_built_in_exceptions_are_known(expected: str, error: BaseException) -> None:
    assert classify(error) == expected


SHARED: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "errors.json").read_text()
)


def test_every_status_has_the_type_that_it_has_in_all_languages() -> None:
    assert len(SHARED["statuses"]) >= 500
    for case in SHARED["statuses"]:
        status = case["status"]
        places: list[dict[str, Any]] = [
            {"status_code": status},
            {"status": status},
            {"code": status},
            {"response": SimpleNamespace(status_code=status)},
            {"response": SimpleNamespace(status=status)},
            {"response": {"ResponseMetadata": {"HTTPStatusCode": status}}},
        ]
        found = {classify(named("HTTPError", **place)) for place in places}
        assert found == {case["type"] or "other"}, case


def test_every_code_has_the_type_that_it_has_in_all_languages() -> None:
    assert len(SHARED["codes"]) >= 20
    assert len(SHARED["both"]) >= 50
    for case in (*SHARED["codes"], *SHARED["both"]):
        status, code = case.get("status"), case["code"]
        places: list[dict[str, Any]] = [
            {"code": code},
            {"type": code},
            {"body": {"type": "error", "error": {"type": code}}},
        ]
        found = {classify(named("HTTPError", status_code=status, **place)) for place in places}
        assert found == {case["type"] or "other"}, case


def test_every_message_has_the_type_that_it_has_in_all_languages() -> None:
    assert len(SHARED["messages"]) >= 15
    for case in SHARED["messages"]:
        error = type("HTTPError", (Exception,), {"status_code": case["status"]})(case["message"])
        assert classify(error) == (case["type"] or "other"), case


@pytest.mark.parametrize(("status", "expected"), [(500, "server_error"), (503, "overloaded")])
def test_a_server_error_is_as_exact_as_its_status(status: int, expected: str) -> None:
    assert classify(named(f"InternalServerError {OPENAI_STATUS}", status_code=status)) == expected


def test_a_class_beats_a_status() -> None:
    assert classify(named("AuthenticationError", status_code=500)) == "auth"
    assert classify(named("RateLimitError", status_code=503)) == "rate_limit"


CODES: list[tuple[str, str, dict[str, Any]]] = [
    ("context_length", "BadRequestError", {"code": "context_length_exceeded"}),
    ("content_filter", "BadRequestError", {"code": "content_filter"}),
    ("content_filter", "BadRequestError", {"code": "content_policy_violation"}),
    ("quota", "RateLimitError", {"code": "insufficient_quota", "status_code": 429}),
    ("quota", "RateLimitError", {"code": None, "type": "insufficient_quota"}),
    ("rate_limit", "RateLimitError", {"code": "rate_limit_exceeded", "type": "tokens"}),
    ("rate_limit", "RateLimitError", {"type": "invalid_request_error"}),
    ("not_found", "BadRequestError", {"code": "model_not_found"}),
    ("auth", "BadRequestError", {"code": "invalid_api_key"}),
    ("invalid_request", "BadRequestError", {"code": "something_new"}),
    ("quota", "APIStatusError", {"status_code": 429, "code": "insufficient_quota"}),
    ("server_error", "APIError", {"type": "server_error"}),
    ("rate_limit", "APIError", {"code": "rate_limit_exceeded"}),
    (
        "overloaded",
        "APIStatusError",
        {"status_code": 200, "body": {"type": "error", "error": {"type": "overloaded_error"}}},
    ),
    ("overloaded", "APIStatusError", {"status_code": 200, "type": "overloaded_error"}),
    ("rate_limit", "ClientError", {"response": {"Error": {"Code": "ThrottlingException"}}}),
    (
        "permission",
        "ClientError",
        {"response": {"Error": {"Code": "AccessDeniedException"}}},
    ),
    ("rate_limit", "ClientError", {"code": 429, "status": "RESOURCE_EXHAUSTED"}),
    ("timeout", "Strange", {"status": "DEADLINE_EXCEEDED"}),
    ("rate_limit", "RpcError", {"code": lambda: SimpleNamespace(name="RESOURCE_EXHAUSTED")}),
    ("other", "Strange", {"code": lambda: 1 / 0}),
    ("other", "Strange", {"status_code": True, "code": 3.5}),
]


@pytest.mark.parametrize(("expected", "names", "attributes"), CODES, ids=str)
def test_a_code_makes_it_exact(expected: str, names: str, attributes: dict[str, Any]) -> None:
    assert classify(named(names, **attributes)) == expected


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("context_length", "prompt is too long: 210000 tokens > 200000 maximum"),
        ("context_length", "This model's maximum context length is 8192 tokens."),
        ("quota", "Your credit balance is too low to access the API."),
        ("content_filter", "triggering Azure OpenAI's content management policy."),
        ("auth", "API key not valid. Please pass a valid API key."),
        ("invalid_request", "messages: at least one message is required"),
    ],
)
def test_a_message_makes_a_bad_request_exact(expected: str, message: str) -> None:
    class BadRequestError(Exception):
        pass

    assert classify(BadRequestError(message)) == expected
    assert classify(ValueError(message)) == "other"


def test_a_cause_speaks_for_an_exception_that_says_nothing() -> None:
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = named("RateLimitError")
    assert classify(wrapped) == "rate_limit"


def test_a_class_that_speaks_beats_its_cause() -> None:
    error = named("APIConnectionError")
    error.__cause__ = named("ReadTimeout")
    assert classify(error) == "connection"


def test_a_context_speaks_unless_it_is_suppressed() -> None:
    error = ValueError()
    error.__context__ = TimeoutError()
    assert classify(error) == "timeout"
    error.__suppress_context__ = True
    assert classify(error) == "other"


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert classify(first) == "other"


def test_a_group_is_its_first_exception() -> None:
    assert classify(named("ExceptionGroup", exceptions=(TimeoutError(),))) == "timeout"


def test_litellm_names_what_broke_a_stream() -> None:
    error = named("MidStreamFallbackError ServiceUnavailableError", status_code=503)
    assert classify(error) == "overloaded"
    error.original_exception = TimeoutError()  # type: ignore[attr-defined]
    assert classify(error) == "timeout"


class EvilError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError


class BadRequestError(EvilError):
    """Says enough by its class alone."""


def test_nothing_raises() -> None:
    for thing in (None, 5, "x", EvilError, EvilError(), object(), type, []):
        assert classify(thing) == "other"


def test_an_exception_that_raises_is_some_error() -> None:
    assert classify(BadRequestError()) in ERROR_TYPES
