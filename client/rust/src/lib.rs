//! One LLM call is one datagram of StatsD lines, sent over UDP or a unix datagram socket.
//!
//! A [`Client`] never panics, never blocks the caller and returns no error:
//! what it could not send it drops and counts, see [`Stats`].
//! The steady path does not allocate.
//!
//! ```no_run
//! use llmstatsd_client::{Client, ErrorType};
//!
//! let client = Client::from_env();
//!
//! let mut call = client.start("gpt-4o", "chat");
//! match ask("Why is the sky blue?") {
//!     Ok(answer) => call.event().tokens = Some(answer.tokens),
//!     Err(_) => call.error(ErrorType::Timeout),
//! }
//! drop(call); // counted here, once, with the time that it took
//! # struct Answer { tokens: i64 }
//! # fn ask(_: &str) -> Result<Answer, ()> { Ok(Answer { tokens: 230 }) }
//! ```
//!
//! The text of an event is made by [`encode`] and cut into datagrams by [`datagrams`],
//! both pure: no I/O and no clock.

#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

mod buffer;
mod builder;
mod call;
mod client;
mod destination;
mod encode;
mod event;
mod link;
mod lookup;
mod socket;
mod stats;
mod sync;

pub use builder::Builder;
pub use call::Call;
pub use client::Client;
pub use encode::{datagrams, encode};
pub use event::{ErrorType, Event};
pub use stats::Stats;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
