//! What a topic may be called: Kafka's rules and texts.

use peer_api::metadata::Image;

const LENGTH_MAX: usize = 249;

/// `Err` with Kafka's text.
pub(crate) fn validate(name: &str) -> Result<(), String> {
    let invalid = |why: String| Err(format!("Topic name is invalid: {why}"));
    match name {
        "" => invalid("the empty string is not allowed".to_owned()),
        "." => invalid("'.' is not allowed".to_owned()),
        ".." => invalid("'..' is not allowed".to_owned()),
        _ if name.chars().map(char::len_utf16).sum::<usize>() > LENGTH_MAX => {
            invalid(format!("the length of '{name}' is longer than the max allowed length {LENGTH_MAX}"))
        }
        _ if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => invalid(format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )),
        _ => Ok(()),
    }
}

/// A topic whose name differs only in `.` and `_`: metric names would clash.
pub(crate) fn colliding<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let unified = name.replace('.', "_");
    image
        .topics_by_name()
        .map(|topic| topic.name.as_str())
        .find(|other| *other != name && other.replace('.', "_") == unified)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those Apache Kafka 4.3.0's `Topic.validate` prints.
    #[test]
    fn names_are_refused_as_kafka_refuses_them() {
        let refused = |name: &str, why: &str| {
            assert_eq!(validate(name), Err(format!("Topic name is invalid: {why}")));
        };
        refused("", "the empty string is not allowed");
        refused(".", "'.' is not allowed");
        refused("..", "'..' is not allowed");
        refused("a b", "'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'");
        refused("ä", "'ä' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'");
        let long = "a".repeat(250);
        refused(&long, &format!("the length of '{long}' is longer than the max allowed length 249"));
        assert_eq!(validate(&long[1..]), Ok(()));
        assert_eq!(validate("Orders.v1_x-2"), Ok(()));
    }
}
