package llmstatsd

import "time"

// An Event is one finished LLM call, failed ones included.
// Every field may be missing: the zero value stands for that.
//
// A number out of its range is left out and counted in [Stats].RefusedFields, and the rest is sent.
// Durations are seconds from 0 to 1e9, sent as whole microseconds.
// Amounts of tokens are whole numbers from 0 to 2^53 - 1.
type Event struct {
	// Model and Operation become labels.
	// Their first 128 characters are kept;
	// control characters, '|', ',', '#' and bytes that are not UTF-8 become '_'.
	Model     string
	Operation string // "chat", "text_completion", "embeddings" or a name of your own

	DurationSeconds           Number // from the request to the end of the answer, as the application saw it
	LoadDurationSeconds       Number // loading the model, as the server says
	PromptEvalDurationSeconds Number // evaluating the prompt, as the server says
	TotalDurationSeconds      Number // the whole call, as the server says
	TimeToFirstTokenSeconds   Number
	TimePerOutputTokenSeconds Number

	// Tokens is the provider's total, cached tokens included once.
	// If it is missing, the sum of PromptTokens and CompletionTokens is sent.
	Tokens           Number
	PromptTokens     Number
	CompletionTokens Number
	CachedTokens     Number

	CostDollars Number // from 0 to 1e6, sent as whole billionths

	Error       ErrorType // empty for a call that succeeded
	RateLimited bool      // the provider answered 429; follows from ErrorRateLimit
	Fallback    bool      // the answer came from another model than the first one asked
}

// A Number is a number that may be missing, which is not the same as 0.
// The zero Number is missing; [Some] and [Seconds] make the others.
type Number struct {
	value float64
	there bool
}

// Some returns the Number of any built-in numeric type.
//
// It takes no [time.Duration], whose unit is not the second: see [Seconds].
func Some[N int | int8 | int16 | int32 | int64 |
	uint | uint8 | uint16 | uint32 | uint64 | float32 | float64](value N) Number {
	// Amounts of tokens end at 2^53 - 1, and up to there a float64 is exact.
	return Number{value: float64(value), there: true}
}

// Seconds returns the length of d in seconds.
func Seconds(d time.Duration) Number {
	return Some(d.Seconds())
}

// An ErrorType is the type label of llm_error_total.
// A text that is none of the constants is sent as [ErrorOther].
type ErrorType string

// The types of errors that the daemon knows.
const (
	ErrorTimeout         ErrorType = "timeout"
	ErrorConnection      ErrorType = "connection"
	ErrorRateLimit       ErrorType = "rate_limit"
	ErrorQuota           ErrorType = "quota"
	ErrorAuth            ErrorType = "auth"
	ErrorPermission      ErrorType = "permission"
	ErrorNotFound        ErrorType = "not_found"
	ErrorContextLength   ErrorType = "context_length"
	ErrorContentFilter   ErrorType = "content_filter"
	ErrorInvalidRequest  ErrorType = "invalid_request"
	ErrorOverloaded      ErrorType = "overloaded"
	ErrorServerError     ErrorType = "server_error"
	ErrorInvalidResponse ErrorType = "invalid_response"
	ErrorCancelled       ErrorType = "cancelled"
	ErrorOther           ErrorType = "other"
)

// known returns e itself if it is one of the constants or empty, and [ErrorOther] if not.
func (e ErrorType) known() ErrorType {
	switch e {
	case "", ErrorTimeout, ErrorConnection, ErrorRateLimit, ErrorQuota, ErrorAuth, ErrorPermission,
		ErrorNotFound, ErrorContextLength, ErrorContentFilter, ErrorInvalidRequest, ErrorOverloaded,
		ErrorServerError, ErrorInvalidResponse, ErrorCancelled:
		return e
	}
	return ErrorOther
}
