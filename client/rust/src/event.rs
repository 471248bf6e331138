//! What is known of one finished LLM call.

/// One finished LLM call; every field may be missing.
///
/// Text is borrowed, so an event costs nothing to make.
/// Where the model's name is bytes, [`String::from_utf8_lossy`] makes text of it.
///
/// ```
/// use llmstatsd_client::{ErrorType, Event};
///
/// let event = Event {
///     model: Some("gpt-4o"),
///     operation: Some("chat"),
///     duration_seconds: Some(30.0),
///     error: Some(ErrorType::Timeout),
///     ..Event::default()
/// };
/// # let _ = event;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Event<'a> {
    /// The model that answered; the first 128 characters count, empty is missing.
    pub model: Option<&'a str>,
    /// `chat`, `generate`, `text_completion`, `embeddings`, ...; the first 128 characters count,
    /// empty is missing.
    pub operation: Option<&'a str>,
    /// The whole call as the application saw it, 0 to 1e9 seconds.
    pub duration_seconds: Option<f64>,
    /// Loading the model, 0 to 1e9 seconds; local servers such as Ollama report it.
    pub load_duration_seconds: Option<f64>,
    /// Reading the prompt, 0 to 1e9 seconds.
    pub prompt_eval_duration_seconds: Option<f64>,
    /// The call as the server saw it, 0 to 1e9 seconds.
    pub total_duration_seconds: Option<f64>,
    /// From the request to the first token of the answer, 0 to 1e9 seconds.
    pub time_to_first_token_seconds: Option<f64>,
    /// The mean time between two tokens of the answer, 0 to 1e9 seconds.
    pub time_per_output_token_seconds: Option<f64>,
    /// The provider's total, 0 to 2^53 - 1; when missing or refused, the sum of
    /// `prompt_tokens` and `completion_tokens` stands in.
    pub tokens: Option<i64>,
    /// Tokens of the prompt, 0 to 2^53 - 1.
    pub prompt_tokens: Option<i64>,
    /// Tokens of the answer, 0 to 2^53 - 1.
    pub completion_tokens: Option<i64>,
    /// Tokens of the prompt that came from a cache, 0 to 2^53 - 1.
    pub cached_tokens: Option<i64>,
    /// What the call cost, 0 to 1e6 US dollars.
    pub cost_dollars: Option<f64>,
    /// Why the call failed; `None` when it did not.
    pub error: Option<ErrorType>,
    /// The provider refused the call because of its rate; alone it also is the error
    /// [`ErrorType::RateLimit`].
    pub rate_limited: bool,
    /// Another model or provider had to answer.
    pub fallback: bool,
}

/// Why a call failed: the closed set of the label `type` of `llm_error_total`.
///
/// ```
/// use llmstatsd_client::ErrorType;
///
/// assert_eq!(ErrorType::RateLimit.as_str(), "rate_limit");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorType {
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Connection,
    /// Too many requests or tokens per time; also counted as a rate limit.
    RateLimit,
    /// The account's credit is used up.
    Quota,
    /// No or wrong credentials.
    Auth,
    /// Not allowed.
    Permission,
    /// No such model or path.
    NotFound,
    /// The prompt is longer than the model can read.
    ContextLength,
    /// Refused for what it says.
    ContentFilter,
    /// Malformed, or not possible.
    InvalidRequest,
    /// The provider is overloaded.
    Overloaded,
    /// Any other failure of the provider.
    ServerError,
    /// An answer that could not be read.
    InvalidResponse,
    /// Given up by the application.
    Cancelled,
    /// Anything else.
    Other,
}

impl ErrorType {
    const ALL: [Self; 15] = [
        Self::Timeout,
        Self::Connection,
        Self::RateLimit,
        Self::Quota,
        Self::Auth,
        Self::Permission,
        Self::NotFound,
        Self::ContextLength,
        Self::ContentFilter,
        Self::InvalidRequest,
        Self::Overloaded,
        Self::ServerError,
        Self::InvalidResponse,
        Self::Cancelled,
        Self::Other,
    ];

    /// The label value, in lower case.
    ///
    /// ```
    /// assert_eq!(llmstatsd_client::ErrorType::Timeout.as_str(), "timeout");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::RateLimit => "rate_limit",
            Self::Quota => "quota",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::ContextLength => "context_length",
            Self::ContentFilter => "content_filter",
            Self::InvalidRequest => "invalid_request",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::InvalidResponse => "invalid_response",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }

    /// The error type that a text names: empty text is none, unknown text is `Other`.
    ///
    /// ```
    /// use llmstatsd_client::ErrorType;
    ///
    /// assert_eq!(ErrorType::from_text("quota"), Some(ErrorType::Quota));
    /// assert_eq!(ErrorType::from_text("EPIPE"), Some(ErrorType::Other));
    /// assert_eq!(ErrorType::from_text(""), None);
    /// ```
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.or(Some(Self::Other))
    }

    /// The error type of an HTTP status, the same in the clients of all languages; none below 400
    /// and from 600.
    ///
    /// A status says less than a provider's error code: OpenAI answers 429 to a used-up quota too.
    ///
    /// ```
    /// use llmstatsd_client::ErrorType;
    ///
    /// assert_eq!(ErrorType::from_status(429), Some(ErrorType::RateLimit));
    /// assert_eq!(ErrorType::from_status(200), None);
    /// ```
    #[must_use]
    pub const fn from_status(status: u16) -> Option<Self> {
        Some(match status {
            401 | 407 => Self::Auth,
            402 => Self::Quota,
            403 | 451 => Self::Permission, // 451: a law forbids it
            404 | 410 => Self::NotFound,
            // 522 and 524: Cloudflare waited for the provider, to connect and to answer.
            408 | 504 | 522 | 524 => Self::Timeout,
            424 => Self::ServerError, // Bedrock: the model failed
            429 => Self::RateLimit,
            499 => Self::Cancelled, // nginx: the client closed the request
            // 498: Groq's flex tier is full; 529: Anthropic is overloaded.
            498 | 503 | 529 => Self::Overloaded,
            400..=499 => Self::InvalidRequest,
            500..=599 => Self::ServerError,
            _ => return None,
        })
    }
}
