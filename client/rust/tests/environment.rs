//! The environment variables of a real process; one test, because they are its own.

mod support;

use llmstatsd_client::{Client, Event};
use std::env;
use support::Receiver;

#[test]
fn a_client_follows_the_environment_at_the_time_it_is_made() {
    for name in ["LLMSTATSD_SOCKET", "LLMSTATSD_HOST", "LLMSTATSD_PORT", "LLMSTATSD_DISABLE"] {
        env::remove_var(name);
    }
    let receiver = Receiver::new();
    env::set_var("LLMSTATSD_PORT", receiver.port().to_string());
    let client = Client::from_env();
    env::set_var("LLMSTATSD_DISABLE", "Yes");
    let disabled = Client::from_env();

    disabled.send(&Event { model: Some("disabled"), ..Event::default() });
    client.send(&Event { model: Some("m"), ..Event::default() });
    assert_eq!(receiver.datagram(), "llm_request_total:1|c|#model:m");
    assert_eq!(disabled.stats().sent_datagrams, 0);
}
