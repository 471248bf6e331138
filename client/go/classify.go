package llmstatsd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"reflect"
)

// Classify returns the type that a failed call is counted under, and "" for nil.
// It looks at the whole tree of wrapped errors, in this order:
//
//   - [context.Canceled], then [context.DeadlineExceeded];
//   - what a provider answered: an error code such as insufficient_quota, the HTTP status, the error's type;
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
		return kind
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
// The code comes first, because a spent quota is a 429 too and a long prompt a 400;
// the name comes last, because OpenAI's is invalid_request_error for a 401 too.
func (a answer) kind() ErrorType {
	if kind, ok := kindOfCode[a.code]; ok {
		return kind
	}
	if kind := kindOfStatus(a.status); kind != "" {
		return kind
	}
	return kindOfCode[a.name]
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
	"timeout_error":              ErrorTimeout,
	"overloaded_error":           ErrorOverloaded,
	"api_error":                  ErrorServerError,
	"server_error":               ErrorServerError,
}

// kindOfStatus returns "" for a status below 400.
func kindOfStatus(status int) ErrorType {
	switch status {
	case 401, 407:
		return ErrorAuth
	case 402:
		return ErrorQuota
	case 403:
		return ErrorPermission
	case 404, 410:
		return ErrorNotFound
	case 408, 504:
		return ErrorTimeout
	case 429:
		return ErrorRateLimit
	case 503, 529:
		return ErrorOverloaded
	}
	switch {
	case status >= 500:
		return ErrorServerError
	case status >= 400:
		return ErrorInvalidRequest
	}
	return ""
}
