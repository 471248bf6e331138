//! As much of JSON as `client/vectors.json` and `client/errors.json` need, so that the tests need no other package.

use std::iter::{from_fn, Peekable};
use std::str::Chars;

#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// As it is written: a double would not hold every whole number.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Panics on text that is not JSON: it is the tests' own file.
    pub fn parse(text: &str) -> Self {
        let mut reader = Reader(text.chars().peekable());
        let value = reader.value();
        assert_eq!(reader.peek(), None, "something follows");
        value
    }

    /// A member of an object; null is missing.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let member = match self {
            Self::Object(members) => members.iter().find(|(known, _)| known == name),
            other => panic!("no object: {other:?}"),
        };
        member.map(|(_, value)| value).filter(|value| **value != Self::Null)
    }

    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("no text: {other:?}"),
        }
    }

    pub fn bool(&self) -> bool {
        match self {
            Self::Bool(bool) => *bool,
            other => panic!("no bool: {other:?}"),
        }
    }

    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            other => panic!("no list: {other:?}"),
        }
    }

    pub fn whole(&self) -> i64 {
        self.number().parse().unwrap()
    }

    /// `"NaN"` and `"Infinity"` stand for numbers that JSON does not have.
    pub fn float(&self) -> f64 {
        self.number().parse().unwrap()
    }

    fn number(&self) -> &str {
        match self {
            Self::Number(number) | Self::Text(number) => number,
            other => panic!("no number: {other:?}"),
        }
    }
}

struct Reader<'t>(Peekable<Chars<'t>>);

impl Reader<'_> {
    fn value(&mut self) -> Json {
        match self.peek() {
            Some('{') => Json::Object(self.members(Self::member)),
            Some('[') => Json::List(self.members(Self::value)),
            Some('"') => Json::Text(self.string()),
            _ => match self.word().as_str() {
                "null" => Json::Null,
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                number => Json::Number(number.to_owned()),
            },
        }
    }

    /// What is between brackets of either kind, separated by commas.
    fn members<T>(&mut self, member: fn(&mut Self) -> T) -> Vec<T> {
        let mut members = Vec::new();
        let is_end = |next| matches!(next, Some(']' | '}'));
        self.0.next();
        while !is_end(self.peek()) {
            members.push(member(self));
            if self.peek() == Some(',') {
                self.0.next();
            }
        }
        self.0.next();
        members
    }

    fn member(&mut self) -> (String, Json) {
        self.peek();
        let name = self.string();
        assert_eq!(self.peek(), Some(':'));
        self.0.next();
        (name, self.value())
    }

    fn string(&mut self) -> String {
        assert_eq!(self.0.next(), Some('"'));
        let units: Vec<u16> = from_fn(|| self.character()).flatten().collect();
        String::from_utf16(&units).unwrap()
    }

    /// One character in UTF-16, which is what `\u` escapes are in.
    fn character(&mut self) -> Option<Vec<u16>> {
        let plain = match self.0.next().expect("the end of the string") {
            '"' => return None,
            '\\' => match self.0.next().expect("an escape") {
                'u' => return Some(vec![self.escaped_unit()]),
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                itself => itself,
            },
            plain => plain,
        };
        Some(plain.encode_utf16(&mut [0; 2]).to_vec())
    }

    fn escaped_unit(&mut self) -> u16 {
        let digits: String = self.0.by_ref().take(4).collect();
        u16::from_str_radix(&digits, 16).unwrap()
    }

    fn word(&mut self) -> String {
        let is_part = |next: &char| next.is_ascii_alphanumeric() || "+-.".contains(*next);
        let word: String = from_fn(|| self.0.next_if(is_part)).collect();
        assert!(!word.is_empty(), "neither value nor end: {:?}", self.0.peek());
        word
    }

    /// What comes after any spaces.
    fn peek(&mut self) -> Option<char> {
        while self.0.next_if(|next| next.is_ascii_whitespace()).is_some() {}
        self.0.peek().copied()
    }
}
