//! One call that is going on.

use crate::client::Client;
use crate::event::{ErrorType, Event};
use std::borrow::Cow;
use std::thread;
use std::time::Instant;

/// One LLM call that is going on, made by [`Client::start`]: counted once, when it is dropped,
/// with the time since its start.
///
/// Whichever way the code leaves its scope, the call is counted.
/// A panic that unwinds through it is the error `other`.
/// An early return is not known to be an error, so say it:
///
/// ```
/// use llmstatsd_client::{Client, ErrorType};
/// # fn ask() -> Result<String, std::io::Error> { Ok("because".to_owned()) }
///
/// fn answer(client: &Client) -> Result<String, std::io::Error> {
///     let mut call = client.start("gpt-4o", "chat");
///     ask().map_err(|failure| {
///         call.error(ErrorType::Connection);
///         failure
///     })
/// }
/// # answer(&Client::builder().disabled(true).build()).unwrap();
/// ```
///
/// A future that is cancelled drops its call as well.
/// To tell it from one that came to its end, begin with the error and take it back:
///
/// ```
/// use llmstatsd_client::{Client, ErrorType};
/// # async fn ask() -> String { "because".to_owned() }
///
/// async fn answer(client: &Client) -> String {
///     let mut call = client.start("gpt-4o", "chat");
///     call.error(ErrorType::Cancelled);
///     let answer = ask().await;
///     call.event().error = None;
///     answer
/// }
/// ```
///
/// A stream that owns its call gives the model as a `String`, which makes a `Call<'static>`.
#[derive(Debug)]
#[must_use = "a call is counted when it is dropped: at once, unless it has a name"]
pub struct Call<'a> {
    client: Client,
    model: Cow<'a, str>,
    operation: Cow<'a, str>,
    event: Event<'a>,
    started: Instant,
    started_in_panic: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(client: Client, model: Cow<'a, str>, operation: Cow<'a, str>) -> Self {
        Self {
            client,
            model,
            operation,
            event: Event::default(),
            started: Instant::now(),
            started_in_panic: thread::panicking(),
        }
    }

    /// What else is known of the call: tokens, cost, a fallback, ...
    ///
    /// A model, an operation or a duration set here stands in place of what was given to
    /// [`Client::start`] and of what is measured.
    ///
    /// ```
    /// # let client = llmstatsd_client::Client::builder().disabled(true).build();
    /// let mut call = client.start("gpt-4o", "chat");
    /// call.event().prompt_tokens = Some(200);
    /// call.event().completion_tokens = Some(30);
    /// ```
    pub fn event(&mut self) -> &mut Event<'a> {
        &mut self.event
    }

    /// Says that the first token of the answer is there; later times are ignored.
    ///
    /// ```
    /// # let client = llmstatsd_client::Client::builder().disabled(true).build();
    /// let mut call = client.start("gpt-4o", "chat");
    /// for token in ["be", "cause"] {
    ///     call.first_token();
    ///     print!("{token}");
    /// }
    /// ```
    pub fn first_token(&mut self) {
        let since = self.started;
        let time = &mut self.event.time_to_first_token_seconds;
        time.get_or_insert_with(|| since.elapsed().as_secs_f64());
    }

    /// Says why the call failed; the last word counts.
    ///
    /// ```
    /// # let client = llmstatsd_client::Client::builder().disabled(true).build();
    /// let mut call = client.start("gpt-4o", "chat");
    /// call.error(llmstatsd_client::ErrorType::RateLimit);
    /// ```
    pub fn error(&mut self, error: ErrorType) {
        self.event.error = Some(error);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let measured = || self.started.elapsed().as_secs_f64();
        let is_panic = thread::panicking() && !self.started_in_panic && !self.event.rate_limited;
        let panic = is_panic.then_some(ErrorType::Other);
        let event = self.event;
        self.client.send(&Event {
            model: event.model.or(Some(&self.model)),
            operation: event.operation.or(Some(&self.operation)),
            duration_seconds: event.duration_seconds.or_else(|| Some(measured())),
            error: event.error.or(panic),
            ..event
        });
    }
}
