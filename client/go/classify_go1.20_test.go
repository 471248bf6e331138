//go:build go1.20

package llmstatsd

import (
	"context"
	"errors"
	"testing"
)

func TestClassifyLooksAtErrorsThatAreJoined(t *testing.T) {
	for want, err := range map[ErrorType]error{
		ErrorTimeout:   errors.Join(errors.New("x"), context.DeadlineExceeded),
		ErrorRateLimit: errors.Join(errors.New("x"), withMethod(429)),
	} {
		if got := Classify(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
