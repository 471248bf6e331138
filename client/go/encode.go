package llmstatsd

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf8"
)

const (
	maxSeconds         = 1e9
	maxTokens          = 1<<53 - 1
	maxDollars         = 1e6
	maxLabelCharacters = 128
)

// AppendLines appends the StatsD lines of e to dst and returns it,
// with the number of fields that were refused.
// The lines are joined by '\n' and do not end with one.
//
// It does no I/O and reads no clock: it is what [Client.Send] sends, for a transport of your own.
func (e Event) AppendLines(dst []byte) (lines []byte, refused int) {
	w := lineWriter{lines: dst}
	w.request(e.Model, e.Operation)
	w.milliseconds("\nllm_request_duration_seconds:", e.DurationSeconds, w.modelOperation)
	w.tokens(&e)
	w.dollars("\nllm_cost_dollars_total:", e.CostDollars)
	w.milliseconds("\nllm_model_load_duration_seconds:", e.LoadDurationSeconds, w.model)
	w.milliseconds("\nllm_prompt_eval_duration_seconds:", e.PromptEvalDurationSeconds, w.model)
	w.milliseconds("\nllm_total_duration_seconds:", e.TotalDurationSeconds, w.model)
	w.milliseconds("\nllm_time_to_first_token_seconds:", e.TimeToFirstTokenSeconds, w.modelOperation)
	w.milliseconds("\nllm_time_per_output_token_seconds:", e.TimePerOutputTokenSeconds, w.modelOperation)
	w.failure(e.Error.known(), e.RateLimited)
	if e.Fallback {
		w.text("\nllm_fallback_total:1|c")
	}
	return w.lines, w.refused
}

// A span is lines[from:to].
type span struct{ from, to int }

// A lineWriter writes the lines of one event.
// The first line has all tags, and the lines after it copy theirs from there.
type lineWriter struct {
	lines          []byte
	model          span // "|#model:M", or nothing
	modelOperation span // "|#model:M,operation:O", or as much of it as there is
	refused        int
}

func (w *lineWriter) text(s string)  { w.lines = append(w.lines, s...) }
func (w *lineWriter) copied(s span)  { w.lines = append(w.lines, w.lines[s.from:s.to]...) }
func (w *lineWriter) label(s string) { w.lines = appendLabel(w.lines, s) }

func (w *lineWriter) request(model, operation string) {
	w.text("llm_request_total:1|c")
	w.model = span{len(w.lines), len(w.lines)}
	if model != "" {
		w.text("|#model:")
		w.label(model)
		w.model.to = len(w.lines)
	}
	if operation != "" {
		w.text(w.nextTag(w.model))
		w.text("operation:")
		w.label(operation)
	}
	w.modelOperation = span{w.model.from, len(w.lines)}
}

// nextTag returns what comes between the tags that a line has already and one more.
func (w *lineWriter) nextTag(tags span) string {
	if tags.from == tags.to {
		return "|#"
	}
	return ","
}

func (w *lineWriter) milliseconds(name string, seconds Number, tags span) {
	micros, ok := w.scaled(seconds, maxSeconds, 1e6)
	if !ok {
		return
	}
	w.text(name)
	w.lines = appendDecimal(w.lines, micros, 1e3)
	w.text("|ms")
	w.copied(tags)
}

func (w *lineWriter) dollars(name string, dollars Number) {
	nanos, ok := w.scaled(dollars, maxDollars, 1e9)
	if !ok {
		return
	}
	w.text(name)
	w.lines = appendDecimal(w.lines, nanos, 1e9)
	w.text("|c")
	w.copied(w.model)
}

// scaled returns n in parts of its unit, rounded to the nearest one; ok is false if n is missing or refused.
func (w *lineWriter) scaled(n Number, most, parts float64) (scaled uint64, ok bool) {
	if !n.there {
		return 0, false
	}
	if !(n.value >= 0 && n.value <= most) { // NaN too
		w.refused++
		return 0, false
	}
	// The conversion keeps the compiler from fusing multiplication and addition into one
	// operation, which rounds once instead of twice: every client shall send the same bytes.
	return uint64(math.Floor(float64(n.value*parts) + 0.5)), true
}

func (w *lineWriter) tokens(e *Event) {
	total, hasTotal := w.whole(e.Tokens)
	prompt, hasPrompt := w.whole(e.PromptTokens)
	completion, hasCompletion := w.whole(e.CompletionTokens)
	cached, hasCached := w.whole(e.CachedTokens)
	if !hasTotal {
		total = prompt + completion
		hasTotal = (hasPrompt || hasCompletion) && total <= maxTokens
	}
	w.count("\nllm_tokens_total:", total, hasTotal)
	w.count("\nllm_prompt_tokens_total:", prompt, hasPrompt)
	w.count("\nllm_completion_tokens_total:", completion, hasCompletion)
	w.count("\nllm_cached_tokens_total:", cached, hasCached)
}

// whole returns an amount of tokens: 0 and false if n is missing or refused.
func (w *lineWriter) whole(n Number) (tokens uint64, ok bool) {
	if !n.there {
		return 0, false
	}
	if !(n.value >= 0 && n.value <= maxTokens && n.value == math.Trunc(n.value)) {
		w.refused++
		return 0, false
	}
	return uint64(n.value), true
}

func (w *lineWriter) count(name string, n uint64, ok bool) {
	if !ok {
		return
	}
	w.text(name)
	w.lines = strconv.AppendUint(w.lines, n, 10)
	w.text("|c")
	w.copied(w.model)
}

func (w *lineWriter) failure(kind ErrorType, rateLimited bool) {
	if kind == "" && rateLimited {
		kind = ErrorRateLimit
	}
	if kind != "" {
		w.text("\nllm_error_total:1|c")
		w.copied(w.model)
		w.text(w.nextTag(w.model))
		w.text("type:")
		w.text(string(kind))
	}
	if rateLimited || kind == ErrorRateLimit {
		w.text("\nllm_rate_limit_exceeded_total:1|c")
		w.copied(w.model)
	}
}

// appendDecimal appends n/unit without trailing zeros; unit is a power of ten.
func appendDecimal(dst []byte, n, unit uint64) []byte {
	dst = strconv.AppendUint(dst, n/unit, 10)
	rest := n % unit
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for rest > 0 {
		unit /= 10
		dst = append(dst, '0'+byte(rest/unit))
		rest %= unit
	}
	return dst
}

// appendLabel appends what is kept of a label's value: see [Event].
func appendLabel(dst []byte, value string) []byte {
	at := 0
	for n := 0; n < maxLabelCharacters && at < len(value); n++ {
		if c := value[at]; c < utf8.RuneSelf {
			dst = append(dst, safe(c))
			at++
			continue
		}
		r, size := utf8.DecodeRuneInString(value[at:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, '_')
		} else {
			dst = append(dst, value[at:at+size]...)
		}
		at += size
	}
	return dst
}

func safe(c byte) byte {
	if c < ' ' || c == 0x7f || c == '|' || c == ',' || c == '#' {
		return '_'
	}
	return c
}

// cut returns as many of the first lines as most bytes hold, and the rest, nil if there is none.
// A line that is longer than that stands alone.
func cut(lines []byte, most int) (datagram, rest []byte) {
	if len(lines) <= most {
		return lines, nil
	}
	end := bytes.LastIndexByte(lines[:most+1], '\n')
	if end < 0 {
		end = bytes.IndexByte(lines, '\n')
	}
	if end < 0 {
		return lines, nil
	}
	return lines[:end], lines[end+1:]
}
