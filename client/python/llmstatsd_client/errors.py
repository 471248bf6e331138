"""Exceptions of any SDK to the closed set of error types, without importing one.

The tables hold names of classes, HTTP statuses and codes as these libraries have them: openai,
anthropic, ollama, litellm, langchain-core, mistralai, cohere, groq, google-genai, google-api-core,
grpc, botocore with Bedrock's errors, httpx, httpcore, requests, urllib3, aiohttp, anyio, celery.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from llmstatsd_client.event import OTHER

_CHAIN_LIMIT: Final = 8
_MESSAGE_LIMIT: Final = 2000


def _by_name(**names: str) -> dict[str, str]:
    return {name: kind for kind, listed in names.items() for name in listed.split()}


_CLASSES: Final = _by_name(
    timeout="""
        Timeout TimeoutError TimeoutException APITimeoutError ReadTimeout WriteTimeout
        ConnectTimeout PoolTimeout ReadTimeoutError ConnectTimeoutError ServerTimeoutError
        SocketTimeoutError ConnectionTimeoutError RequestTimeoutError GatewayTimeout
        GatewayTimeoutError DeadlineExceeded DeadlineExceededError FutureTimeoutError
        ModelTimeoutError ModelTimeoutException SoftTimeLimitExceeded TimeLimitExceeded
    """,
    connection="""
        APIConnectionError ConnectError ConnectionError NetworkError ReadError WriteError
        CloseError ProtocolError ProxyError TransportError ClientConnectionError ClientPayloadError
        ChunkedEncodingError EndpointConnectionError ConnectionClosedError HTTPClientError
        SSLError gaierror NewConnectionError NameResolutionError MaxRetryError
        IncompleteRead IncompleteReadError BrokenResourceError ClosedResourceError EndOfStream
        ConnectionFailed ModelConnectionError WebSocketConnectionClosedError
    """,
    rate_limit="""
        RateLimitError TooManyRequests TooManyRequestsError TooManyRequestsException
        ResourceExhausted ThrottlingException ModelRateLimitError
    """,
    quota="""
        PaymentRequiredError BudgetExceededError ServiceQuotaExceededException
        ContractSpendLimitReachedError EnforcedSpendLimitReachedError
    """,
    auth="""
        AuthenticationError Unauthorized UnauthorizedError Unauthenticated InvalidTokenError
        CredentialsError NoCredentialsError PartialCredentialsError CredentialRetrievalError
        TokenRetrievalError NoAuthTokenError SSOError ExpiredTokenException
        UnrecognizedClientException WorkloadIdentityError ModelAuthenticationError
        DefaultCredentialsError RefreshError
    """,
    permission="""
        PermissionDeniedError PermissionDenied Forbidden ForbiddenError AccessDeniedException
        ModelPermissionDeniedError
    """,
    not_found="NotFoundError NotFound ResourceNotFoundException ModelNotFoundError",
    context_length="ContextWindowExceededError ContextOverflowError",
    content_filter="""
        ContentFilterFinishReasonError ContentPolicyViolationError GuardrailRaisedException
        BlockedPiiEntityError RejectedRequestError BlockedPromptException StopCandidateException
    """,
    invalid_request="""
        BadRequestError BadRequest InvalidRequestError InvalidArgument UnprocessableEntityError
        ConflictError ContentTooLargeError RequestTooLargeError ValidationException
        ParamValidationError HTTPValidationError ModelInvalidRequestError FailedPrecondition
        OutOfRange InvalidURL UnsupportedProtocol LocalProtocolError
    """,
    overloaded="""
        OverloadedError ServiceUnavailable ServiceUnavailableError ServiceUnavailableException
        ModelNotReadyException CapacityNotAvailableError
    """,
    server_error="""
        InternalServerError InternalServerException InternalFailure BadGateway BadGatewayError
        ServerError ModelErrorException ModelStreamErrorException
    """,
    invalid_response="""
        JSONDecodeError ValidationError APIResponseValidationError ResponseValidationError
        JSONSchemaValidationError OutputParserException LengthFinishReasonError DecodingError
        DecodeError ContentDecodingError ContentTypeError UnicodeDecodeError NoResponseError
        UnknownApiResponseError
    """,
    cancelled="""
        CancelledError Cancelled KeyboardInterrupt SystemExit GeneratorExit FutureCancelledError
        FutureCancelled TaskCancelled ClientClosedRequestError
    """,
)

_VAGUE_CLASSES: Final = _by_name(
    # A provider's answer that tells no more: also what comes in the middle of a stream.
    server_error="""
        APIError APIStatusError ApiError SDKError ResponseError EventStreamError ModelAPIError
    """,
)

_STATUSES: Final = {
    401: "auth",
    402: "quota",
    403: "permission",
    404: "not_found",
    407: "auth",
    408: "timeout",
    410: "not_found",
    424: "server_error",  # Bedrock: the model failed
    429: "rate_limit",
    451: "permission",  # a law forbids it
    498: "overloaded",  # Groq: the flex tier is full
    499: "cancelled",  # nginx: the client closed the request
    503: "overloaded",
    504: "timeout",
    522: "timeout",  # Cloudflare: the provider took too long to be connected to
    524: "timeout",  # Cloudflare: the provider took too long to answer
    529: "overloaded",
}

_CODES: Final = _by_name(
    timeout="timeout timeout_error deadline_exceeded modeltimeoutexception",
    rate_limit="""
        rate_limit_exceeded rate_limit_error too_many_requests resource_exhausted
        throttlingexception
    """,
    quota="""
        insufficient_quota billing_hard_limit_reached billing_not_active billing_error
        enforced_spend_limit_reached contract_spend_limit_reached servicequotaexceededexception
    """,
    auth="""
        invalid_api_key authentication_error unauthenticated expiredtokenexception
        unrecognizedclientexception invalidsignatureexception
    """,
    permission="permission_error permission_denied accessdeniedexception",
    not_found="model_not_found not_found_error not_found resourcenotfoundexception",
    context_length="context_length_exceeded",
    content_filter="content_filter content_policy_violation responsibleaipolicyviolation",
    invalid_request="""
        invalid_request_error invalid_argument failed_precondition request_too_large
        validationexception
    """,
    overloaded="""
        overloaded_error unavailable slow_down serviceunavailableexception modelnotreadyexception
    """,
    server_error="""
        server_error api_error internal internal_error internal_server_error
        internalserverexception modelerrorexception modelstreamerrorexception
    """,
    cancelled="cancelled",
)

_REFINED: Final[Mapping[str | None, frozenset[str]]] = {
    "invalid_request": frozenset(
        {"context_length", "content_filter", "quota", "auth", "permission", "not_found"}
    ),
    "rate_limit": frozenset({"quota"}),
    "server_error": frozenset({"overloaded", "timeout"}),
}
"""What a code or a message may make of a class or a status that says less."""

_MESSAGES: Final = (
    (
        "context_length",
        "maximum context length|context_length_exceeded|prompt is too long|context window",
    ),
    ("content_filter", "content management policy|content_filter|content policy"),
    ("quota", "insufficient_quota|exceeded your current quota|credit balance is too low"),
    ("auth", "api key not valid"),
)
_MESSAGE: Final = re.compile(
    "|".join(f"(?P<{kind}>{words})" for kind, words in _MESSAGES), re.IGNORECASE
).search


def classify(error: object) -> str:
    """The error type of an exception, or of a class of exceptions; raises nothing.

    The names of the classes along the method resolution order decide, then the HTTP status, then
    the code; a code or a message makes a bad request, a rate limit or a server error more exact.
    An exception that says nothing is what it was raised from, else `other`.
    """
    try:
        return next(filter(None, map(_kind, _chain(error))), OTHER)
    except Exception:  # noqa: BLE001 attributes of an exception may be properties that raise
        return OTHER


def _chain(error: object) -> Iterator[object]:
    """The exception, then what it was raised from or holds, at most so far."""
    original = _attribute(error, "original_exception")
    if isinstance(original, BaseException):  # LiteLLM's, for an error in the middle of a stream
        yield original
    for _ in range(_CHAIN_LIMIT):
        if error is None:
            return
        yield error
        error = _behind(error)


def _behind(error: object) -> object:
    held = _attribute(error, "exceptions")  # of an ExceptionGroup
    if isinstance(held, tuple) and held:
        return held[0]
    cause = _attribute(error, "__cause__")
    if cause is None and not _attribute(error, "__suppress_context__"):
        cause = _attribute(error, "__context__")
    return cause


def _kind(error: object) -> str | None:
    kind = _of_class(error, _CLASSES)
    if kind is not None and kind not in _REFINED:
        return kind
    status = _of_status(error)
    if kind == "server_error" or kind is None:
        kind = status or kind
    return _refined(error, kind) or _of_class(error, _VAGUE_CLASSES)


def _refined(error: object, kind: str | None) -> str | None:
    allowed = _REFINED.get(kind)
    for exact in (*_codes(error), *_in_message(error, kind)):
        if kind is None or (allowed and exact in allowed):
            return exact
    return kind


def _of_class(error: object, table: Mapping[str, str]) -> str | None:
    kind = error if isinstance(error, type) else type(error)
    names = (each.__name__ for each in kind.__mro__)
    return next((table[name] for name in names if name in table), None)


def _of_status(error: object) -> str | None:
    status = _status(error)
    if status is None or not 400 <= status <= 599:
        return None
    return _STATUSES.get(status) or ("invalid_request" if status < 500 else "server_error")


def _status(error: object) -> int | None:
    """The HTTP status that an SDK keeps with the exception or with its response."""
    response = _attribute(error, "response")
    details = response.get("ResponseMetadata") if isinstance(response, dict) else None
    found = (
        *(_attribute(error, name) for name in ("status_code", "status", "code", "http_status")),
        *(_attribute(response, name) for name in ("status_code", "status")),
        details.get("HTTPStatusCode") if isinstance(details, dict) else None,
    )
    return next(
        (int(each) for each in found if isinstance(each, int) and not isinstance(each, bool)), None
    )


def _codes(error: object) -> Iterator[str]:
    """The error types that the codes of an exception name, the most exact first."""
    for code in _spelled(error):
        if isinstance(code, str) and code.lower() in _CODES:
            yield _CODES[code.lower()]


def _spelled(error: object) -> Iterator[object]:
    body, response = _attribute(error, "body"), _attribute(error, "response")
    inner = body.get("error") if isinstance(body, dict) else None
    aws = response.get("Error") if isinstance(response, dict) else None
    for holder in (error, inner, body, aws):
        for name in ("code", "Code", "type", "status"):
            yield holder.get(name) if isinstance(holder, dict) else _attribute(holder, name)
    yield _grpc_code(error)


def _grpc_code(error: object) -> object:
    if not any(each.__name__ == "RpcError" for each in type(error).__mro__):
        return None
    code = _attribute(error, "code")
    return _attribute(code(), "name") if callable(code) else None


def _in_message(error: object, kind: str | None) -> Iterator[str]:
    """What a message says where no code does: Anthropic's prompt that is too long, for one."""
    if kind not in ("invalid_request", "rate_limit"):
        return
    found = _MESSAGE(str(error)[:_MESSAGE_LIMIT])
    if found and found.lastgroup:
        yield found.lastgroup


def _attribute(holder: object, name: str) -> object:
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 a property may raise anything
        return None
