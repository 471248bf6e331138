package llmstatsd

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A vector is a case of the contract that the clients of all languages share.
type vector struct {
	Name             string
	Event            map[string]json.RawMessage
	MaxDatagramBytes int `json:"max_datagram_bytes"`
	Datagrams        []string
	Refused          []string
	Untyped          bool
}

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("../vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Cases []vector }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Cases) < 80 {
		t.Fatalf("%d vectors, want at least 80", len(all.Cases))
	}
	return all.Cases
}

// event returns false if the types of Go cannot express the vector's event.
func (v vector) event() (e Event, ok bool) {
	texts := map[string]*string{
		"model": &e.Model, "operation": &e.Operation, "error": (*string)(&e.Error),
	}
	switches := map[string]*bool{"rate_limited": &e.RateLimited, "fallback": &e.Fallback}
	for field, value := range v.Event {
		var err error
		switch {
		case texts[field] != nil:
			err = json.Unmarshal(value, texts[field])
		case switches[field] != nil:
			err = json.Unmarshal(value, switches[field])
		default:
			ok = readNumber(numberField(&e, field), value)
			if !ok {
				return e, false
			}
		}
		if err != nil {
			return e, false
		}
	}
	return e, true
}

// numberField finds DurationSeconds for duration_seconds.
func numberField(e *Event, name string) *Number {
	camel := ""
	for _, word := range strings.Split(name, "_") {
		camel += strings.ToUpper(word[:1]) + word[1:]
	}
	return reflect.ValueOf(e).Elem().FieldByName(camel).Addr().Interface().(*Number)
}

func readNumber(n *Number, value json.RawMessage) bool {
	var whole int64
	var real float64
	switch text := string(value); {
	case text == "null":
	case text == `"NaN"`:
		*n = Some(math.NaN())
	case text == `"Infinity"`:
		*n = Some(math.Inf(1))
	case text == `"-Infinity"`:
		*n = Some(math.Inf(-1))
	case json.Unmarshal(value, &whole) == nil:
		*n = Some(whole)
	case json.Unmarshal(value, &real) == nil:
		*n = Some(real)
	default:
		return false
	}
	return true
}

func datagramsOf(e Event, most int) (datagrams []string, refused int) {
	rest, refused := e.AppendLines(nil)
	for len(rest) > 0 {
		var datagram []byte
		datagram, rest = cut(rest, most)
		datagrams = append(datagrams, string(datagram))
	}
	return datagrams, refused
}

func TestEveryVector(t *testing.T) {
	skipped := 0
	for _, v := range vectors(t) {
		e, ok := v.event()
		if !ok {
			if !v.Untyped {
				t.Errorf("%s: cannot be expressed, and is not marked untyped", v.Name)
			}
			skipped++
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			most := v.MaxDatagramBytes
			if most == 0 {
				most = maxUDPDatagramBytes
			}
			got, refused := datagramsOf(e, most)
			if !reflect.DeepEqual(got, v.Datagrams) {
				t.Errorf("got  %q\nwant %q", got, v.Datagrams)
			}
			if refused != len(v.Refused) {
				t.Errorf("refused %d fields, want %q", refused, v.Refused)
			}
		})
	}
	t.Logf("%d vectors skipped: their values have a type that an Event cannot hold", skipped)
}

func TestALabelOfAMegabyteIsCut(t *testing.T) {
	lines, _ := Event{Model: strings.Repeat("m", 1<<20)}.AppendLines(nil)
	if want := "llm_request_total:1|c|#model:" + strings.Repeat("m", 128); string(lines) != want {
		t.Errorf("got %q", lines)
	}
}

func TestAnErrorOfAMegabyteIsOther(t *testing.T) {
	lines, _ := Event{Error: ErrorType(strings.Repeat("e", 1<<20))}.AppendLines(nil)
	if want := "llm_request_total:1|c\nllm_error_total:1|c|#type:other"; string(lines) != want {
		t.Errorf("got %q", lines)
	}
}

func TestEachByteThatIsNotUTF8IsOneUnderscore(t *testing.T) {
	for value, want := range map[string]string{
		"a\xffb":                     "a_b",
		"\xe2\x82":                   "__",  // a euro sign without its end
		"\xe2\x82\xac":               "€",   // and with it
		"\xc0\x80":                   "__",  // an over-long NUL
		"\xed\xa0\x80":               "___", // a surrogate
		"\xf4\x90\x80\x80":           "____",
		"\ufffd":                     "\ufffd", // that character itself is valid
		strings.Repeat("\xff", 1000): strings.Repeat("_", 128),
	} {
		if got := string(appendLabel(nil, value)); got != want {
			t.Errorf("%.20q: got %q, want %q", value, got, want)
		}
	}
}

func TestSomeTakesEveryNumericType(t *testing.T) {
	for i, n := range []Number{
		Some(7), Some(int8(7)), Some(int16(7)), Some(int32(7)), Some(int64(7)),
		Some(uint(7)), Some(uint8(7)), Some(uint16(7)), Some(uint32(7)), Some(uint64(7)),
		Some(float32(7)), Some(7.0), Seconds(7 * time.Second),
	} {
		if n != Some(7) {
			t.Errorf("%d: got %v", i, n)
		}
	}
}

func TestAMissingNumberIsNotZero(t *testing.T) {
	missing, _ := Event{}.AppendLines(nil)
	zero, _ := Event{Tokens: Some(0)}.AppendLines(nil)
	if want := string(missing) + "\nllm_tokens_total:0|c"; string(zero) != want {
		t.Errorf("got %q, want %q", zero, want)
	}
}

// The only double whose multiplication and addition, fused, round to another whole number:
// 0.49999999999999992 billionths, of which rounding twice makes 1. `GOAMD64=v3 go test` shows it.
func TestMultiplicationAndAdditionAreNotFused(t *testing.T) {
	lines, _ := Event{CostDollars: Some(4.999999999999999e-10)}.AppendLines(nil)
	if want := "llm_request_total:1|c\nllm_cost_dollars_total:0.000000001|c"; string(lines) != want {
		t.Errorf("got %q, want %q", lines, want)
	}
}

func TestLinesAreAppended(t *testing.T) {
	lines, _ := Event{Model: "m"}.AppendLines([]byte("before "))
	if want := "before llm_request_total:1|c|#model:m"; string(lines) != want {
		t.Errorf("got %q, want %q", lines, want)
	}
}

func TestAUint64OverTheMostIsRefused(t *testing.T) {
	if _, refused := (Event{Tokens: Some(uint64(math.MaxUint64))}).AppendLines(nil); refused != 1 {
		t.Errorf("refused %d fields, want 1", refused)
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		most           int
		datagram, rest string
	}{
		{0, "aa", "bb\ncc"}, // a line that is too long stands alone
		{1, "aa", "bb\ncc"},
		{2, "aa", "bb\ncc"},
		{4, "aa", "bb\ncc"},
		{5, "aa\nbb", "cc"},
		{7, "aa\nbb", "cc"},
		{8, "aa\nbb\ncc", ""},
	} {
		datagram, rest := cut([]byte("aa\nbb\ncc"), c.most)
		if string(datagram) != c.datagram || string(rest) != c.rest {
			t.Errorf("%d: got %q and %q", c.most, datagram, rest)
		}
	}
}

// Whatever an event holds, each of its lines is one valid StatsD line, and cutting loses nothing.
func FuzzAppendLines(f *testing.F) {
	f.Add("gpt-4o", "chat", "timeout", 1.84, 230.0, 62)
	f.Add("a|b\n,#\xff", "\x00", "x", math.NaN(), -1.0, 0)
	f.Fuzz(func(t *testing.T, model, operation, kind string, seconds, tokens float64, most int) {
		e := Event{
			Model: model, Operation: operation, Error: ErrorType(kind),
			DurationSeconds: Some(seconds), PromptTokens: Some(tokens), CostDollars: Some(seconds),
		}
		lines, refused := e.AppendLines(nil)
		if !utf8.Valid(lines) || refused < 0 || refused > 3 {
			t.Fatalf("%d refused, %q", refused, lines)
		}
		for _, line := range bytes.Split(lines, []byte("\n")) {
			if bytes.ContainsAny(line, "\r\x00\x7f") || bytes.Count(line, []byte("|")) > 2 ||
				bytes.Count(line, []byte(",")) > 1 || bytes.Count(line, []byte("#")) > 1 {
				t.Fatalf("%q", line)
			}
		}
		if most < 0 {
			return
		}
		datagrams, _ := datagramsOf(e, most)
		if strings.Join(datagrams, "\n") != string(lines) {
			t.Fatalf("cut into %q", datagrams)
		}
		for _, datagram := range datagrams {
			if len(datagram) > most && strings.Contains(datagram, "\n") {
				t.Fatalf("%d bytes: %q", len(datagram), datagram)
			}
		}
	})
}
