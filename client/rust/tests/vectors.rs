//! `client/vectors.json`: events, and the datagrams that every client makes of them.

mod support;

use llmstatsd_client::{datagrams, encode, ErrorType, Event};
use std::io::{stderr, Write};
use support::json::Json;

#[test]
fn every_vector_gives_its_datagrams_and_refusals() {
    let file = Json::parse(include_str!("../../vectors.json"));
    let cases = file.get("cases").unwrap().list();
    let is_untyped = |case: &&Json| case.get("untyped").map_or(false, Json::bool);
    let (untyped, typed): (Vec<_>, Vec<_>) = cases.iter().partition(is_untyped);
    let shown = format!("vectors: {} run, {} untyped skipped\n", typed.len(), untyped.len());
    // Unlike `eprint!`, this is shown although the test passes.
    stderr().write_all(shown.as_bytes()).unwrap();
    assert!(typed.len() >= 80);
    typed.into_iter().for_each(check);
}

fn check(case: &Json) {
    let name = case.get("name").unwrap().text();
    let max_bytes = case.get("max_datagram_bytes").map_or(1432, Json::whole);
    let (mut lines, mut refused) = (Vec::new(), Vec::new());
    encode(&event(case.get("event").unwrap()), &mut lines, |field| refused.push(field));
    let made: Vec<_> = datagrams(&lines, usize::try_from(max_bytes).unwrap())
        .map(|datagram| std::str::from_utf8(datagram).unwrap())
        .collect();
    assert_eq!(made, texts(case.get("datagrams")), "{name}");
    refused.sort_unstable();
    let mut expected = texts(case.get("refused"));
    expected.sort_unstable();
    assert_eq!(refused, expected, "{name}");
}

fn texts(list: Option<&Json>) -> Vec<&str> {
    list.map_or(&[][..], Json::list).iter().map(Json::text).collect()
}

fn event(json: &Json) -> Event<'_> {
    let text = |name| json.get(name).map(Json::text);
    let float = |name| json.get(name).map(Json::float);
    let whole = |name| json.get(name).map(Json::whole);
    let bool = |name| json.get(name).map_or(false, Json::bool);
    Event {
        model: text("model"),
        operation: text("operation"),
        duration_seconds: float("duration_seconds"),
        load_duration_seconds: float("load_duration_seconds"),
        prompt_eval_duration_seconds: float("prompt_eval_duration_seconds"),
        total_duration_seconds: float("total_duration_seconds"),
        time_to_first_token_seconds: float("time_to_first_token_seconds"),
        time_per_output_token_seconds: float("time_per_output_token_seconds"),
        tokens: whole("tokens"),
        prompt_tokens: whole("prompt_tokens"),
        completion_tokens: whole("completion_tokens"),
        cached_tokens: whole("cached_tokens"),
        cost_dollars: float("cost_dollars"),
        error: text("error").and_then(ErrorType::from_text),
        rate_limited: bool("rate_limited"),
        fallback: bool("fallback"),
    }
}

/// The only double whose multiplication and addition, fused, would round to another whole number.
#[test]
fn multiplication_and_addition_are_not_fused() {
    let event = Event { cost_dollars: Some(4.999_999_999_999_999e-10), ..Event::default() };
    let mut lines = Vec::new();
    encode(&event, &mut lines, |field| panic!("{field}"));
    assert_eq!(lines, b"llm_request_total:1|c\nllm_cost_dollars_total:0.000000001|c");
}

/// Names that no vector or field knows would be tests that test nothing.
#[test]
fn every_field_of_the_vectors_is_known() {
    let file = Json::parse(include_str!("../../vectors.json"));
    let known = format!("{:?}", Event::default());
    for case in file.get("cases").unwrap().list() {
        let members = match case.get("event") {
            Some(Json::Object(members)) => members,
            other => panic!("no event: {other:?}"),
        };
        for (name, _) in members {
            assert!(known.contains(&format!(" {name}: ")), "{name}");
        }
    }
}
