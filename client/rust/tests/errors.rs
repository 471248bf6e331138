//! `client/errors.json`: which type an HTTP status is, in the clients of all languages.

mod support;

use llmstatsd_client::ErrorType;
use support::json::Json;

#[test]
fn every_shared_status_has_its_type() {
    let file = Json::parse(include_str!("../../errors.json"));
    let mut seen = 0;
    for case in file.get("statuses").unwrap().list() {
        // What is no u16 cannot be asked for.
        let status = match u16::try_from(case.get("status").unwrap().whole()) {
            Ok(status) => status,
            Err(_) => continue,
        };
        let expected = case.get("type").map(Json::text);
        assert_eq!(ErrorType::from_status(status).map(ErrorType::as_str), expected, "{status}");
        seen += 1;
    }
    assert!(seen >= 500, "{seen}");
}
