//! Times one call: `cargo run --example one_call`, with `llmstatsd serve` running.

use llmstatsd_client::{Client, ErrorType};
use std::thread::sleep;
use std::time::Duration;

struct Answer {
    prompt_tokens: i64,
    completion_tokens: i64,
}

/// Stands in for a real model.
fn ask(_prompt: &str, mut on_token: impl FnMut(&str)) -> Result<Answer, std::io::Error> {
    for token in ["Rayleigh", " scattering", ".\n"] {
        sleep(Duration::from_millis(100));
        on_token(token);
    }
    Ok(Answer { prompt_tokens: 6, completion_tokens: 3 })
}

fn main() {
    let client = Client::from_env();

    let mut call = client.start("gpt-4o", "chat");
    let answer = ask("Why is the sky blue?", |token| {
        call.first_token();
        print!("{token}");
    });
    match answer {
        Ok(answer) => {
            call.event().prompt_tokens = Some(answer.prompt_tokens);
            call.event().completion_tokens = Some(answer.completion_tokens);
        }
        Err(_) => call.error(ErrorType::Connection),
    }
    drop(call);

    client.close();
    println!("{:?}", client.stats());
}
