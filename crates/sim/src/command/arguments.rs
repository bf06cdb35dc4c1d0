//! Words of the command line, taken one after the other; what is left in the end is refused by name.

use std::str::FromStr;

use super::Refusal;

pub struct Arguments {
    words: Vec<String>,
}

impl Arguments {
    pub fn new(words: Vec<String>) -> Arguments {
        Arguments { words }
    }

    /// The next word that is no option.
    pub fn word(&mut self) -> Option<String> {
        let is_word = self.words.first().is_some_and(|word| !word.starts_with("--") || word == "--help");
        is_word.then(|| self.words.remove(0))
    }

    pub fn required(&mut self, what: &str) -> Result<String, Refusal> {
        self.word().ok_or_else(|| Refusal::Usage(format!("{what} is missing")))
    }

    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.words.iter().position(|word| word == name);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// The word behind this one.
    pub fn option<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<T>, Refusal> {
        let Some(at) = self.words.iter().position(|word| word == name) else { return Ok(None) };
        self.words.remove(at);
        if at == self.words.len() {
            return Err(Refusal::Usage(format!("{name} wants {what}")));
        }
        let value = self.words.remove(at);
        let parsed = value.parse().map_err(|_| Refusal::Usage(format!("{name} wants {what}, and `{value}` is none")));
        parsed.map(Some)
    }

    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        self.option(name, "a number")
    }

    pub fn end(self) -> Result<(), Refusal> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(Refusal::Usage(format!("what is `{word}`?"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(str::to_owned).collect())
    }

    fn said<T>(result: Result<T, Refusal>) -> String {
        match result {
            Err(Refusal::Usage(why)) => why,
            Err(Refusal::Failed(_)) | Ok(_) => panic!("it was let through"),
        }
    }

    #[test]
    fn words_are_taken_in_any_order_and_none_is_left() {
        let mut words = arguments("replay a.trace --verbose --step 7");
        assert_eq!(words.word().as_deref(), Some("replay"));
        assert_eq!(words.required("a trace").ok().as_deref(), Some("a.trace"));
        assert_eq!(words.number("--step").ok(), Some(Some(7)));
        assert_eq!(words.number("--until").ok(), Some(None));
        assert!(words.flag("--verbose") && !words.flag("--verbose"));
        assert!(words.end().is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(said(arguments("--seeds x").number("--seeds")), "--seeds wants a number, and `x` is none");
        assert_eq!(said(arguments("--seeds").number("--seeds")), "--seeds wants a number");
        assert_eq!(said(arguments("--sedes 3").end()), "what is `--sedes`?");
        assert_eq!(said(arguments("--step 3").required("a trace")), "a trace is missing");
    }
}
