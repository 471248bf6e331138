package llmstatsd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"reflect"
	"strings"
)

// Classify returns the type that a failed call is counted under, and "" for nil.
// It looks at the whole tree of wrapped errors, in this order:
//
//   - [context.Canceled], then [context.DeadlineExceeded];
//   - what a provider answered: the HTTP status, which a code such as insufficient_quota may make more exact,
//     and without a status the code alone; the message is read only where a bad request or a rate limit may be more;
//   - a method Timeout() bool that returns true;
//   - errors of encoding/json, which mean an answer that cannot be read;
//   - errors of net and net/url, io.EOF and io.ErrUnexpectedEOF, which mean the connection.
//
// The status comes from a method StatusCode() int or HTTPStatusCode() int,
// or from a field StatusCode, HTTPStatusCode or Code, which the errors of most SDKs have;
// code and type come from a method ErrorCode() string and the fields Code and Type.
//
// Anything else is [ErrorOther]. Set Event.Error yourself where you know better.
func Classify(err error) (kind ErrorType) {
	if err == nil {
		return ""
	}
	// Methods of other people's errors are called here, and one may not bear its nil receiver.
	defer func() {
		if recover() != nil {
			kind = ErrorOther
		}
	}()
	switch {
	case errors.Is(err, context.Canceled):
		return ErrorCancelled
	case errors.Is(err, context.DeadlineExceeded):
		return ErrorTimeout
	}
	var says answer
	says.read(err)
	if kind := says.kind(); kind != "" {
		return refinedByMessage(kind, err)
	}
	return kindOfCause(err)
}

func kindOfCause(err error) ErrorType {
	var slow interface{ Timeout() bool }
	if errors.As(err, &slow) && slow.Timeout() {
		return ErrorTimeout
	}
	var (
		syntax   *json.SyntaxError
		mismatch *json.UnmarshalTypeError
	)
	if errors.As(err, &syntax) || errors.As(err, &mismatch) {
		return ErrorInvalidResponse
	}
	var (
		operation *net.OpError
		name      *net.DNSError
		request   *url.Error
	)
	if errors.As(err, &operation) || errors.As(err, &name) || errors.As(err, &request) {
		return ErrorConnection
	}
	for _, broken := range brokenConnection {
		if errors.Is(err, broken) {
			return ErrorConnection
		}
	}
	return ErrorOther
}

// brokenConnection are the errors that mean the connection when nothing wraps them.
var brokenConnection = append([]error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed}, brokenSocket...)

// An answer is what a provider said, as far as its error tells.
type answer struct {
	code   string // the more exact name: insufficient_quota
	name   string // the class of error: invalid_request_error
	status int    // of HTTP
}

// kind returns "" if the answer says nothing.
func (a answer) kind() ErrorType {
	kind := kindOfStatus(a.status)
	for _, said := range [...]string{a.code, a.name} {
		if exact, ok := kindOfCode[said]; ok && refines(exact, kind) {
			return exact
		}
	}
	return kind
}

// refines returns whether a code is to be believed where the status says kind:
// a spent quota is a 429 too and a long prompt a 400, but OpenAI's type of a 401 is invalid_request_error.
func refines(exact, kind ErrorType) bool {
	switch kind {
	case "":
		return true
	case ErrorInvalidRequest:
		switch exact {
		case ErrorContextLength, ErrorContentFilter, ErrorQuota, ErrorAuth, ErrorPermission, ErrorNotFound:
			return true
		}
	case ErrorRateLimit:
		return exact == ErrorQuota
	case ErrorServerError:
		return exact == ErrorOverloaded || exact == ErrorTimeout
	}
	return false
}

// refinedByMessage is for what has no code of its own: Anthropic's prompt that is too long, for one.
func refinedByMessage(kind ErrorType, err error) ErrorType {
	if kind != ErrorInvalidRequest && kind != ErrorRateLimit {
		return kind
	}
	message := messageOf(err)
	for _, known := range kindOfMessage {
		if refines(known.kind, kind) && strings.Contains(message, known.words) {
			return known.kind
		}
	}
	return kind
}

// messageOf returns the beginning of a message in lower case, and "" of an error that cannot say one.
func messageOf(err error) (message string) {
	defer func() { _ = recover() }() // other people's Error may panic; the status is known all the same
	message = err.Error()
	if len(message) > maxMessageBytes {
		message = message[:maxMessageBytes]
	}
	return strings.ToLower(message)
}

const maxMessageBytes = 2000

var kindOfMessage = [...]struct {
	words string
	kind  ErrorType
}{
	{"maximum context length", ErrorContextLength},
	{"context_length_exceeded", ErrorContextLength},
	{"prompt is too long", ErrorContextLength},
	{"context window", ErrorContextLength},
	{"content management policy", ErrorContentFilter},
	{"content_filter", ErrorContentFilter},
	{"content policy", ErrorContentFilter},
	{"insufficient_quota", ErrorQuota},
	{"exceeded your current quota", ErrorQuota},
	{"credit balance is too low", ErrorQuota},
	{"api key not valid", ErrorAuth},
}

// read takes from each error of the tree what the ones around it have not said.
func (a *answer) read(err error) {
	if err == nil {
		return
	}
	a.readMethods(err)
	a.readFields(reflect.ValueOf(err))
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		a.read(wrapper.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			a.read(inner)
		}
	}
}

func (a *answer) readMethods(err error) {
	if e, ok := err.(interface{ StatusCode() int }); ok {
		a.setStatus(int64(e.StatusCode()))
	}
	if e, ok := err.(interface{ HTTPStatusCode() int }); ok {
		a.setStatus(int64(e.HTTPStatusCode()))
	}
	if e, ok := err.(interface{ ErrorCode() string }); ok {
		set(&a.code, e.ErrorCode())
	}
}

func (a *answer) readFields(v reflect.Value) {
	v = pointed(v)
	if v.Kind() != reflect.Struct {
		return
	}
	for _, field := range [...]string{"StatusCode", "HTTPStatusCode", "Code"} {
		if n := pointed(v.FieldByName(field)); n.IsValid() && n.CanInt() {
			a.setStatus(n.Int())
		}
	}
	if code := pointed(v.FieldByName("Code")); code.Kind() == reflect.String {
		set(&a.code, code.String())
	}
	if name := pointed(v.FieldByName("Type")); name.Kind() == reflect.String {
		set(&a.name, name.String())
	}
}

// pointed follows one pointer or interface; behind a nil one there is the invalid Value.
func pointed(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		return v.Elem()
	}
	return v
}

// setStatus ignores what is no status of a failure: 200 before a stream broke, codes of gRPC.
func (a *answer) setStatus(status int64) {
	if a.status == 0 && status >= 400 && status <= 599 {
		a.status = int(status)
	}
}

func set(text *string, to string) {
	if *text == "" {
		*text = to
	}
}

// kindOfCode has the codes and types of OpenAI's and Anthropic's errors.
// https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors
var kindOfCode = map[string]ErrorType{
	"insufficient_quota":         ErrorQuota,
	"billing_hard_limit_reached": ErrorQuota,
	"billing_not_active":         ErrorQuota,
	"billing_error":              ErrorQuota,
	"rate_limit_exceeded":        ErrorRateLimit,
	"rate_limit_error":           ErrorRateLimit,
	"context_length_exceeded":    ErrorContextLength,
	"content_filter":             ErrorContentFilter,
	"content_policy_violation":   ErrorContentFilter,
	"invalid_api_key":            ErrorAuth,
	"authentication_error":       ErrorAuth,
	"permission_error":           ErrorPermission,
	"model_not_found":            ErrorNotFound,
	"not_found_error":            ErrorNotFound,
	"invalid_request_error":      ErrorInvalidRequest,
	"request_too_large":          ErrorInvalidRequest,
	"timeout_error":              ErrorTimeout,
	"overloaded_error":           ErrorOverloaded,
	"api_error":                  ErrorServerError,
	"server_error":               ErrorServerError,
}

// kindOfStatus returns "" for what is no status of a failure; ../errors.json has them all.
func kindOfStatus(status int) ErrorType {
	switch status {
	case 401, 407:
		return ErrorAuth
	case 402:
		return ErrorQuota
	case 403, 451: // 451: a law forbids it
		return ErrorPermission
	case 404, 410:
		return ErrorNotFound
	case 408, 504, 522, 524: // 522 and 524: Cloudflare waited for the provider, to connect and to answer
		return ErrorTimeout
	case 424: // Bedrock: the model failed
		return ErrorServerError
	case 429:
		return ErrorRateLimit
	case 499: // nginx: the client closed the request
		return ErrorCancelled
	case 498, 503, 529: // 498: Groq's flex tier is full; 529: Anthropic is overloaded
		return ErrorOverloaded
	}
	switch status / 100 {
	case 4:
		return ErrorInvalidRequest
	case 5:
		return ErrorServerError
	}
	return ""
}
