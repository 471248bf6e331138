//! Events to StatsD lines to datagrams; no I/O and no clock.

use crate::event::{ErrorType, Event};

const MAX_SECONDS: f64 = 1e9;
const MAX_DOLLARS: f64 = 1e6;
/// 2^53 - 1, up to which every whole number has a double of its own.
const MAX_TOKENS: u64 = 9_007_199_254_740_991;
/// Characters of a model or an operation that are looked at and kept, as in the daemon.
const MAX_LABEL_CHARS: usize = 128;

/// Microseconds, written in milliseconds.
const MILLI_DECIMALS: u32 = 3;
/// Billionths of a dollar, written in dollars.
const NANO_DECIMALS: u32 = 9;

/// A field's name and value.
macro_rules! field {
    ($event:ident.$name:ident) => {
        (stringify!($name), $event.$name)
    };
}

/// Writes the lines of an event into `lines`, in place of what was there.
///
/// The lines are joined by `\n`, without one at the end, and there is always at least one.
/// A field that is out of range is left out, and `refused` is called with its name.
/// Nothing is allocated when `lines` has room: under 1 KB for usual names, 12 KB at most.
///
/// ```
/// use llmstatsd_client::{encode, Event};
///
/// let event = Event { model: Some("gpt-4o"), duration_seconds: Some(-1.0), ..Event::default() };
/// let (mut lines, mut refused) = (Vec::new(), Vec::new());
/// encode(&event, &mut lines, |field| refused.push(field));
///
/// assert_eq!(lines, b"llm_request_total:1|c|#model:gpt-4o");
/// assert_eq!(refused, ["duration_seconds"]);
/// ```
pub fn encode(event: &Event<'_>, lines: &mut Vec<u8>, refused: impl FnMut(&'static str)) {
    let mut lines = Lines::begin(lines, event, refused);
    let (model, operation) = (lines.model_end, lines.operation_end);
    lines.timer("llm_request_duration_seconds", field!(event.duration_seconds), operation);
    lines.tokens(event);
    lines.cost(event);
    lines.timer("llm_model_load_duration_seconds", field!(event.load_duration_seconds), model);
    lines.timer(
        "llm_prompt_eval_duration_seconds",
        field!(event.prompt_eval_duration_seconds),
        model,
    );
    lines.timer("llm_total_duration_seconds", field!(event.total_duration_seconds), model);
    lines.timer(
        "llm_time_to_first_token_seconds",
        field!(event.time_to_first_token_seconds),
        operation,
    );
    lines.timer(
        "llm_time_per_output_token_seconds",
        field!(event.time_per_output_token_seconds),
        operation,
    );
    lines.failure(event);
}

/// Cuts lines into datagrams of at most `max_bytes`, each as full as can be.
///
/// It cuts only between lines, so a line that is longer goes alone.
///
/// ```
/// use llmstatsd_client::datagrams;
///
/// let cut: Vec<&[u8]> = datagrams(b"a:1|c\nb:2|c\nc:3|c", 11).collect();
/// assert_eq!(cut, [&b"a:1|c\nb:2|c"[..], b"c:3|c"]);
/// ```
pub fn datagrams(lines: &[u8], max_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (datagram, after) = rest.split_at(cut(rest, max_bytes));
        rest = after.get(1..).unwrap_or_default();
        Some(datagram)
    })
}

/// Where the first datagram ends: at the last line end that it can have before it.
fn cut(lines: &[u8], max_bytes: usize) -> usize {
    let is_end = |byte: &u8| *byte == b'\n';
    if lines.len() <= max_bytes {
        return lines.len();
    }
    let fits = lines[..=max_bytes].iter().rposition(is_end);
    let alone = || lines.iter().position(is_end).unwrap_or(lines.len());
    fits.unwrap_or_else(alone)
}

type Field<T> = (&'static str, Option<T>);

/// The text so far. Its first line holds the tags that the others repeat:
/// `llm_request_total:1|c|#model:gpt-4o,operation:chat`.
struct Lines<'v, R> {
    text: &'v mut Vec<u8>,
    refused: R,
    tags_start: usize,
    /// Where the tags of a line with the model alone end.
    model_end: usize,
    /// Where the tags of a line with model and operation end.
    operation_end: usize,
}

impl<'v, R: FnMut(&'static str)> Lines<'v, R> {
    fn begin(text: &'v mut Vec<u8>, event: &Event<'_>, refused: R) -> Self {
        text.clear();
        text.extend_from_slice(b"llm_request_total:1|c");
        let tags_start = text.len();
        push_tag(text, b"|#model:", event.model);
        let model_end = text.len();
        let has_model = model_end > tags_start;
        let key: &[u8] = if has_model { b",operation:" } else { b"|#operation:" };
        push_tag(text, key, event.operation);
        let operation_end = text.len();
        Self { text, refused, tags_start, model_end, operation_end }
    }

    fn tokens(&mut self, event: &Event<'_>) {
        let total = self.accepted(field!(event.tokens), tokens);
        let prompt = self.accepted(field!(event.prompt_tokens), tokens);
        let completion = self.accepted(field!(event.completion_tokens), tokens);
        let cached = self.accepted(field!(event.cached_tokens), tokens);
        self.counter("llm_tokens_total", total.or_else(|| sum(prompt, completion)));
        self.counter("llm_prompt_tokens_total", prompt);
        self.counter("llm_completion_tokens_total", completion);
        self.counter("llm_cached_tokens_total", cached);
    }

    fn cost(&mut self, event: &Event<'_>) {
        if let Some(nanos) = self.accepted(field!(event.cost_dollars), nanos) {
            self.line("llm_cost_dollars_total", (nanos, NANO_DECIMALS), b"|c", self.model_end);
        }
    }

    fn failure(&mut self, event: &Event<'_>) {
        let because_of_rate = event.rate_limited.then_some(ErrorType::RateLimit);
        if let Some(error) = event.error.or(because_of_rate) {
            let model = self.tags_start..self.model_end;
            let key: &[u8] = if model.is_empty() { b"|#type:" } else { b",type:" };
            self.text.extend_from_slice(b"\nllm_error_total:1|c");
            self.text.extend_from_within(model);
            self.text.extend_from_slice(key);
            self.text.extend_from_slice(error.as_str().as_bytes());
        }
        if event.rate_limited || event.error == Some(ErrorType::RateLimit) {
            self.counter("llm_rate_limit_exceeded_total", Some(1));
        }
        if event.fallback {
            self.text.extend_from_slice(b"\nllm_fallback_total:1|c");
        }
    }

    fn counter(&mut self, series: &str, count: Option<u64>) {
        if let Some(count) = count {
            self.line(series, (count, 0), b"|c", self.model_end);
        }
    }

    fn timer(&mut self, series: &str, seconds: Field<f64>, tags_end: usize) {
        if let Some(micros) = self.accepted(seconds, micros) {
            self.line(series, (micros, MILLI_DECIMALS), b"|ms", tags_end);
        }
    }

    /// The number that a line shows; a value that is there but has none is refused.
    fn accepted<T>(&mut self, field: Field<T>, number: fn(T) -> Option<u64>) -> Option<u64> {
        let (name, value) = field;
        let number = number(value?);
        if number.is_none() {
            (self.refused)(name);
        }
        number
    }

    fn line(&mut self, series: &str, value: (u64, u32), kind: &[u8], tags_end: usize) {
        let (scaled, decimals) = value;
        self.text.push(b'\n');
        self.text.extend_from_slice(series.as_bytes());
        self.text.push(b':');
        push_decimal(self.text, scaled, decimals);
        self.text.extend_from_slice(kind);
        self.text.extend_from_within(self.tags_start..tags_end);
    }
}

fn micros(seconds: f64) -> Option<u64> {
    scaled(seconds, MAX_SECONDS, 1e6)
}

fn nanos(dollars: f64) -> Option<u64> {
    scaled(dollars, MAX_DOLLARS, 1e9)
}

/// The nearest whole number; NaN is in no range.
fn scaled(value: f64, most: f64, scale: f64) -> Option<u64> {
    // Never negative, so the cast rounds down, and at most 1e15, so it fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rounded = || (value * scale + 0.5) as u64;
    (0.0..=most).contains(&value).then(rounded)
}

fn tokens(count: i64) -> Option<u64> {
    u64::try_from(count).ok().filter(|count| *count <= MAX_TOKENS)
}

fn sum(prompt: Option<u64>, completion: Option<u64>) -> Option<u64> {
    prompt.or(completion)?;
    let sum = prompt.unwrap_or(0) + completion.unwrap_or(0);
    (sum <= MAX_TOKENS).then_some(sum)
}

fn push_tag(text: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        text.extend_from_slice(key);
        // What is replaced is ASCII, which is never a part of a longer character.
        text.extend(first_chars(value).bytes().map(safe));
    }
}

fn first_chars(value: &str) -> &str {
    if value.len() <= MAX_LABEL_CHARS {
        return value;
    }
    let end = value.char_indices().nth(MAX_LABEL_CHARS);
    end.map_or(value, |(end, _)| &value[..end])
}

fn safe(byte: u8) -> u8 {
    match byte {
        0..=0x1f | 0x7f | b'|' | b',' | b'#' => b'_',
        _ => byte,
    }
}

/// Writes `scaled / 10^decimals` without trailing zeros: 1840500 with 3 decimals is 1840.5.
fn push_decimal(text: &mut Vec<u8>, scaled: u64, decimals: u32) {
    let unit = 10_u64.pow(decimals);
    let (mut whole, mut part, mut places) = (scaled / unit, scaled % unit, decimals);
    // 20 digits of a u64 and a point, filled from the end.
    let mut digits = [0; 21];
    let mut start = digits.len();
    let mut put = |byte: u8| {
        start -= 1;
        digits[start] = byte;
    };
    if part > 0 {
        while part % 10 == 0 {
            part /= 10;
            places -= 1;
        }
        for _ in 0..places {
            put(digit(part));
            part /= 10;
        }
        put(b'.');
    }
    put(digit(whole));
    while whole >= 10 {
        whole /= 10;
        put(digit(whole));
    }
    text.extend_from_slice(&digits[start..]);
}

/// The last digit.
fn digit(number: u64) -> u8 {
    #[allow(clippy::cast_possible_truncation)] // under 10
    let last = (number % 10) as u8;
    b'0' + last
}
