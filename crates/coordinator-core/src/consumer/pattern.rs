//! Regular expressions over topic names, in the RE2 dialect that Kafka's clients send (KIP-848).
//!
//! The engine is the `regex` crate, which like RE2 takes linear time whatever the pattern. Where the two read a pattern
//! differently it is rewritten or refused, so that no client gets topics that it would not get from Kafka:
//!
//! | pattern | RE2 | `regex` | here |
//! |---|---|---|---|
//! | `\Q...\E` | literal text | refused | rewritten |
//! | `[[]`, `[a&&b]`, `[a--b]`, `[a~~b]` | plain characters | set operations | rewritten |
//! | flags other than `imsU`, `(?x)` | refused | taken | refused |
//! | `\101`, `\07` | octal | refused | rewritten |
//! | `\<`, `\#` | plain characters | word boundary, refused | rewritten |
//! | `\u0041`, `\U...` | refused | taken | refused |
//! | `a**`, repetition above 1000 | refused | taken | refused |
//! | a brace that begins no repetition | plain character | refused | rewritten |
//! | `\C` (any byte), a repetition of flags, `(?i)*` | taken | refused | refused |
//! | `{*` | refused | refused | any number of braces |
//!
//! Patterns come from outside: their size and the memory they compile to are bounded.

use std::fmt;

use regex::{Regex, RegexBuilder};

const PATTERN_BYTES_MAX: usize = 16 * 1024;
const COMPILED_BYTES_MAX: usize = 4 * 1024 * 1024;
const NESTING_MAX: u32 = 200;
const REPETITION_MAX: u32 = 1_000;

/// Matches whole names, as Kafka does.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern {
    reason: String,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Pattern {
    pub fn new(pattern: &str) -> Result<Pattern, InvalidPattern> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(refuse("the expression is too long"));
        }
        let translated = translate(pattern)?;
        // What does not compile alone must not compile because of the brackets around it.
        build(&translated)?;
        let regex = build(&format!(r"\A(?:{translated})\z"))?;
        Ok(Pattern { regex })
    }

    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

fn refuse(reason: &str) -> InvalidPattern {
    InvalidPattern { reason: reason.to_owned() }
}

fn build(pattern: &str) -> Result<Regex, InvalidPattern> {
    RegexBuilder::new(pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => refuse("the expression is too large"),
            error => refuse(error.to_string().lines().last().unwrap_or("it cannot be read").trim()),
        })
}

/// From RE2's reading to the engine's.
fn translate(pattern: &str) -> Result<String, InvalidPattern> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(next) = rest.chars().next() {
        let length = repetition(rest)?;
        if length > 0 {
            let (operator, after) = rest.split_at(length);
            out.push_str(operator);
            rest = after;
            if let Some(after) = rest.strip_prefix('?') {
                out.push('?');
                rest = after;
            }
            if repetition(rest)? > 0 {
                return Err(refuse("invalid nested repetition operator"));
            }
        } else if let Some(quoted) = rest.strip_prefix(r"\Q") {
            // Without an end the quotation goes to the end of the pattern.
            let (text, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(text));
            rest = after;
        } else if next == '\\' {
            rest = escape(rest, &mut out)?;
        } else if next == '[' {
            rest = class(rest, &mut out)?;
        } else if let Some(after) = rest.strip_prefix("(?)") {
            out.push_str("(?:)");
            rest = after;
        } else if let Some(group) = rest.strip_prefix("(?") {
            check_group(group)?;
            out.push_str("(?");
            rest = group;
        } else {
            // A brace that begins no repetition stands for itself.
            if next == '{' {
                out.push('\\');
            }
            out.push(next);
            rest = rest.get(next.len_utf8()..).unwrap_or("");
        }
    }
    Ok(out)
}

/// How long the repetition operator is that stands here; 0 for none.
fn repetition(rest: &str) -> Result<usize, InvalidPattern> {
    if rest.starts_with(['*', '+', '?']) {
        return Ok(1);
    }
    let Some((counts, _)) = rest.strip_prefix('{').and_then(|counts| counts.split_once('}')) else { return Ok(0) };
    let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(least) || !(most.is_empty() || is_number(most)) {
        return Ok(0);
    }
    let is_too_large =
        |text: &str| !text.is_empty() && text.parse::<u32>().map_or(true, |count| count > REPETITION_MAX);
    match is_too_large(least) || is_too_large(most) {
        true => Err(refuse("invalid repeat count")),
        false => Ok("{}".len() + counts.len()),
    }
}

/// An escape, outside of a class or in one. What follows it.
fn escape<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    let Some(escaped) = rest.chars().nth(1) else { return Err(refuse(r"trailing \ at the end of the expression")) };
    let digits = rest.get(1..).unwrap_or("");
    let octal = digits.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    if escaped == '0' || octal >= 2 {
        let (number, after) = digits.split_at(octal);
        let number = u32::from_str_radix(number, 8).unwrap_or(0);
        out.push_str(&format!(r"\x{{{number:x}}}"));
        return Ok(after);
    }
    if !escaped.is_ascii_alphanumeric() {
        out.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
        return Ok(rest.get(1 + escaped.len_utf8()..).unwrap_or(""));
    }
    if matches!(escaped, 'u' | 'U' | 'G' | 'Z' | 'K' | 'R' | 'X' | 'h' | 'H' | 'N') {
        return Err(refuse(&format!(r"invalid escape sequence: \{escaped}")));
    }
    let braced = matches!(escaped, 'p' | 'P' | 'x') && digits.get(1..).is_some_and(|brace| brace.starts_with('{'));
    let length = if braced { rest.find('}').map_or(rest.len(), |end| end + 1) } else { 2 };
    let text = rest.get(..length).unwrap_or("");
    // The engine reads more into a brace after a word boundary.
    out.push_str(if text == r"\b" { r"(?:\b)" } else { text });
    Ok(rest.get(length..).unwrap_or(""))
}

/// A class in brackets. What follows it.
fn class<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    let mut rest = rest.strip_prefix('[').unwrap_or(rest);
    out.push('[');
    if let Some(negated) = rest.strip_prefix('^') {
        out.push('^');
        rest = negated;
    }
    let mut is_first = true;
    // A closing bracket in the first place is a plain character.
    while is_first || !rest.starts_with(']') {
        is_first = false;
        let named = rest.strip_prefix("[:").and_then(|name| name.find(":]"));
        if let Some(length) = named {
            let end = "[:".len() + length + ":]".len();
            out.push_str(rest.get(..end).unwrap_or(""));
            rest = rest.get(end..).unwrap_or("");
            continue;
        }
        rest = class_character(rest, out)?;
        // A dash before the end is one, everywhere else it makes a range with whatever follows, another dash included.
        if let Some(after) = rest.strip_prefix('-')
            && !after.starts_with(']')
        {
            out.push('-');
            rest = class_character(after, out)?;
        }
    }
    out.push(']');
    Ok(rest.strip_prefix(']').unwrap_or(rest))
}

/// One character of a class, or an escape. What follows it.
fn class_character<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    let Some(next) = rest.chars().next() else { return Err(refuse("missing closing ]")) };
    match next {
        '\\' => return escape(rest, out),
        '[' | ']' | '&' | '~' | '-' | '^' => out.extend(['\\', next]),
        _ => out.push(next),
    }
    Ok(rest.get(next.len_utf8()..).unwrap_or(""))
}

/// What follows `(?`: a name or flags.
fn check_group(group: &str) -> Result<(), InvalidPattern> {
    if group.starts_with("P<") || group.starts_with('<') {
        return Ok(());
    }
    let flags = group.chars().take_while(|c| !matches!(c, ':' | ')'));
    match flags.into_iter().all(|flag| matches!(flag, 'i' | 'm' | 's' | 'U' | '-')) {
        true => Ok(()),
        false => Err(refuse("invalid or unsupported Perl syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).matches(name)
    }

    #[test]
    fn names_are_matched_whole() {
        assert!(matches("orders.*", "orders-eu"));
        assert!(!matches("orders", "orders-eu"));
        assert!(!matches("rders.*", "orders"));
        assert!(matches("a|b", "b") && !matches("a|b", "ab"));
        assert!(!matches("a|b.*", "xb"));
    }

    #[test]
    fn what_re2_reads_otherwise_is_rewritten() {
        assert!(matches(r"\Qa.b\E.*", "a.bc") && !matches(r"\Qa.b\E.*", "axbc"));
        assert!(matches(r"\Qa.b", "a.b"));
        assert!(matches("[[]", "[") && matches("[a[b]", "["));
        assert!(matches("[a&&b]", "&") && matches("[a&&b]", "a"));
        assert!(matches("[a~~b]", "~"));
        assert!(matches("[+--]", "-") && matches("[+--]", ",") && !matches("[+--]", "."));
        assert!(matches("[a-]", "-") && matches("[-a]", "-") && matches("[a^]", "^"));
        assert!(matches("[]a]", "]") && matches("[^]a]", "b") && !matches("[^]a]", "]"));
        assert!(matches("[[:alpha:]_]+", "ab_c") && !matches("[[:alpha:]]", "1"));
        assert!(matches("a{", "a{") && matches("a{,2}", "a{,2}") && matches("a{2}", "aa"));
    }

    #[test]
    fn flags_and_classes_of_re2_work() {
        assert!(matches("(?i)ORDERS", "orders"));
        assert!(matches("(?P<n>a)b", "ab") && matches("(?<n>a)b", "ab") && matches("(?:a)b", "ab"));
        assert!(matches(r"\d+-\w*", "12-ab"));
        assert!(matches(r"\pL+", "ab"));
        assert!(matches("(?U)a+", "aaa"));
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for pattern in [
            "*a", "(", "[", "[a", "a)", r"\", r"a\8", "(?x)a b", "(?=a)", "(?!a)", "a(?<=b)", r"(a)\1", r"\u0041",
            "a**", "a*{2}", "a{1001}", "a{2,1}", "(?P<n", "[z-a]",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_cannot_escape_from_the_brackets_around_it() {
        assert!(Pattern::new("a)|(?:b").is_err());
        assert!(!matches("(?m)^a$", "a\nb"));
    }

    #[test]
    fn patterns_that_would_take_much_memory_are_refused() {
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
        assert!(Pattern::new("((a{1000}){1000}){1000}").is_err());
        assert!(Pattern::new(&format!("{}a{}", "(".repeat(1_000), ")".repeat(1_000))).is_err());
    }

    /// What RE2/J 1.8, which Kafka 4.3 uses, makes of random patterns: refused, or which of `NAMES` match.
    #[test]
    fn patterns_are_read_as_kafka_reads_them() {
        const NAMES: [&str; 22] = [
            "a", "b", "ab", "abc", "a-b", "a.b", "A", "1", "aa", "_", "-", "a1", "B-c", "[", "&", "~", "{", "a{", "<",
            "aab", "abab", "bc",
        ];
        for line in include_str!("../../fixtures/patterns.txt").lines() {
            let (pattern, expected) = line.rsplit_once('\t').expect("pattern, tab, verdict");
            let verdict = match Pattern::new(pattern) {
                Ok(pattern) => NAMES.iter().map(|name| if pattern.matches(name) { '1' } else { '0' }).collect(),
                Err(_) => "refused".to_owned(),
            };
            assert_eq!(verdict, expected, "{pattern}");
        }
    }
}
