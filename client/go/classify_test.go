package llmstatsd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// Errors in the shapes that SDKs give them.
type (
	withField  struct{ StatusCode int } // Anthropic, Ollama
	withFields struct {                 // OpenAI
		StatusCode int
		Code, Type string
	}
	withPointers struct { // go-openai
		HTTPStatusCode int
		Code           any
		Type           *string
	}
	withCode    struct{ Code int } // Google
	withMethod  int
	withMethods struct { // AWS
		status int
		code   string
	}
	withBadMethod  struct{ status int }
	withBadMessage struct{ StatusCode int }
)

func (withField) Error() string      { return "" }
func (*withFields) Error() string    { return "" }
func (*withPointers) Error() string  { return "" }
func (withCode) Error() string       { return "" }
func (withMethod) Error() string     { return "" }
func (withMethods) Error() string    { return "" }
func (*withBadMethod) Error() string { return "" }
func (withBadMessage) Error() string { panic("no message") }

func (e withMethod) StatusCode() int      { return int(e) }
func (e withMethods) HTTPStatusCode() int { return e.status }
func (e withMethods) ErrorCode() string   { return e.code }
func (e *withBadMethod) StatusCode() int  { return e.status }

func TestClassify(t *testing.T) {
	name := "rate_limit_error"
	for what, c := range map[string]struct {
		err  error
		want ErrorType
	}{
		"nil":                       {nil, ""},
		"a text":                    {errors.New("x"), ErrorOther},
		"cancelled":                 {context.Canceled, ErrorCancelled},
		"cancelled, wrapped":        {fmt.Errorf("x: %w", context.Canceled), ErrorCancelled},
		"cancelled in a request":    {&url.Error{Err: context.Canceled}, ErrorCancelled},
		"a deadline":                {context.DeadlineExceeded, ErrorTimeout},
		"a deadline of a socket":    {&net.OpError{Err: os.ErrDeadlineExceeded}, ErrorTimeout},
		"a deadline of a file":      {os.ErrDeadlineExceeded, ErrorTimeout},
		"a slow name server":        {&net.DNSError{IsTimeout: true}, ErrorTimeout},
		"no such host":              {&net.DNSError{IsNotFound: true}, ErrorConnection},
		"an error of a connection":  {fmt.Errorf("x: %w", &net.OpError{Err: errors.New("y")}), ErrorConnection},
		"an error of a request":     {&url.Error{Err: errors.New("http2: server sent GOAWAY")}, ErrorConnection},
		"an early end":              {io.ErrUnexpectedEOF, ErrorConnection},
		"no such file":              {&os.PathError{Err: os.ErrNotExist}, ErrorOther},
		"not JSON":                  {json.Unmarshal([]byte("<"), new(int)), ErrorInvalidResponse},
		"other JSON":                {json.Unmarshal([]byte(`""`), new(int)), ErrorInvalidResponse},
		"a nil receiver":            {(*withBadMethod)(nil), ErrorOther},
		"a nil pointer":             {(*withFields)(nil), ErrorOther},
		"a method":                  {withMethod(429), ErrorRateLimit},
		"a method, wrapped":         {fmt.Errorf("x: %w", withMethod(429)), ErrorRateLimit},
		"a field in a pointer":      {&withField{429}, ErrorRateLimit},
		"a status called Code":      {withCode{429}, ErrorRateLimit},
		"a code of gRPC":            {withCode{8}, ErrorOther},
		"a quota":                   {&withFields{429, "insufficient_quota", "insufficient_quota"}, ErrorQuota},
		"a long prompt":             {&withFields{400, "context_length_exceeded", "invalid_request_error"}, ErrorContextLength},
		"a status beats the type":   {&withFields{401, "x", "invalid_request_error"}, ErrorAuth},
		"a type beside a code":      {&withFields{429, "rate_limit_exceeded", "insufficient_quota"}, ErrorQuota},
		"a type without a status":   {&withFields{0, "", "overloaded_error"}, ErrorOverloaded},
		"a type after 200":          {&withFields{200, "", "server_error"}, ErrorServerError},
		"a code of any type":        {&withPointers{HTTPStatusCode: 400, Code: "content_filter"}, ErrorContentFilter},
		"two numbers":               {&withPointers{HTTPStatusCode: 404, Code: 500}, ErrorNotFound},
		"a number as a code":        {&withPointers{Code: 404}, ErrorNotFound},
		"a type behind a pointer":   {&withPointers{Type: &name}, ErrorRateLimit},
		"methods":                   {withMethods{429, "insufficient_quota"}, ErrorQuota},
		"a status without its code": {withMethods{500, "x"}, ErrorServerError},
	} {
		t.Run(what, func(t *testing.T) {
			if got := Classify(c.err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// sharedErrors are client/errors.json, which the clients of all languages agree on; a type that is null is "".
type sharedErrors struct {
	Statuses, Codes, Both, Messages []struct {
		Status        int
		Code, Message string
		Type          ErrorType
	}
}

func readSharedErrors(t *testing.T) (shared sharedErrors) {
	t.Helper()
	text, err := os.ReadFile("../errors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &shared); err != nil {
		t.Fatal(err)
	}
	if len(shared.Statuses) < 500 || len(shared.Codes) < 20 || len(shared.Both) < 50 || len(shared.Messages) < 15 {
		t.Fatal("errors.json is not whole")
	}
	return shared
}

// orOther is what Classify returns where an answer tells of no error.
func orOther(kind ErrorType) ErrorType {
	if kind == "" {
		return ErrorOther
	}
	return kind
}

func TestEverySharedStatusHasItsType(t *testing.T) {
	for _, c := range readSharedErrors(t).Statuses {
		if got := kindOfStatus(c.Status); got != c.Type {
			t.Errorf("%d: got %q, want %q", c.Status, got, c.Type)
		}
		for _, err := range []error{withField{c.Status}, withCode{c.Status}, withMethod(c.Status)} {
			if got := Classify(err); got != orOther(c.Type) {
				t.Errorf("%T %d: got %q, want %q", err, c.Status, got, orOther(c.Type))
			}
		}
	}
}

func TestEverySharedCodeHasItsType(t *testing.T) {
	shared := readSharedErrors(t)
	for _, c := range append(shared.Codes, shared.Both...) {
		for _, err := range []error{
			&withFields{StatusCode: c.Status, Code: c.Code},
			&withFields{StatusCode: c.Status, Type: c.Code},
			withMethods{c.Status, c.Code},
		} {
			if got := Classify(err); got != orOther(c.Type) {
				t.Errorf("%T %d %s: got %q, want %q", err, c.Status, c.Code, got, orOther(c.Type))
			}
		}
	}
}

func TestEverySharedMessageHasItsType(t *testing.T) {
	for _, c := range readSharedErrors(t).Messages {
		err := fmt.Errorf("%w%s", withField{c.Status}, c.Message)
		if got := Classify(err); got != orOther(c.Type) {
			t.Errorf("%d %q: got %q, want %q", c.Status, c.Message, got, orOther(c.Type))
		}
	}
}

func TestAMessageThatPanicsLeavesTheStatus(t *testing.T) {
	if got := Classify(withBadMessage{400}); got != ErrorInvalidRequest {
		t.Errorf("got %q", got)
	}
}

func TestErrorsOfRealRequests(t *testing.T) {
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/breaks" {
			panic(http.ErrAbortHandler)
		}
		<-silent
	}))
	defer server.Close()
	defer close(silent)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()

	get := func(ctx context.Context, timeout time.Duration, url string) error {
		request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			return err
		}
		response, err := (&http.Client{Timeout: timeout}).Do(request)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, c := range map[string]struct {
		err  error
		want ErrorType
	}{
		"timeout":   {get(context.Background(), time.Millisecond, server.URL), ErrorTimeout},
		"cancelled": {get(cancelled, 0, server.URL), ErrorCancelled},
		"refused":   {get(context.Background(), 0, closed.URL), ErrorConnection},
		"breaks":    {get(context.Background(), 0, server.URL+"/breaks"), ErrorConnection},
		"not HTTPS": {get(context.Background(), 0, strings.Replace(server.URL, "http", "https", 1)), ErrorConnection},
	} {
		if got := Classify(c.err); got != c.want {
			t.Errorf("%s: %v: got %q, want %q", name, c.err, got, c.want)
		}
	}
}

func TestEveryKindIsOneOfTheConstants(t *testing.T) {
	kinds := []ErrorType{}
	for _, kind := range kindOfCode {
		kinds = append(kinds, kind)
	}
	for _, known := range kindOfMessage {
		kinds = append(kinds, known.kind)
	}
	for status := 400; status < 600; status++ {
		kinds = append(kinds, kindOfStatus(status))
	}
	for _, kind := range kinds {
		if kind == "" || kind == ErrorOther || kind.known() != kind {
			t.Errorf("got %q", kind)
		}
	}
}
