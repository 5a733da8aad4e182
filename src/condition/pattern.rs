//! Regular expressions of `matches`.
//!
//! CEL means RE2's syntax. The `regex` crate reads almost the same, and where it reads
//! otherwise the pattern is respelled, so that a condition means here what it means elsewhere:
//! `\d`, `\s`, `\w` and `\b` are ASCII in RE2, and inside brackets `[`, `&&` and `~~` are plain
//! characters. Two minus signs inside brackets would need guessing and are refused.

use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// Largest compiled pattern, and largest cache of its matcher, in bytes.
const MAX_COMPILED_BYTES: usize = 256 * 1024;

/// Compiles a pattern in RE2's syntax, or says in one line why it is none.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("the pattern takes more than {MAX_PATTERN_BYTES} bytes"));
    }
    RegexBuilder::new(&respell(pattern)?)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .nest_limit(64)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern is too large once compiled".to_owned(),
            // The last line of the crate's message is the reason; those before draw the place.
            regex::Error::Syntax(text) => {
                let reason = text.lines().last().unwrap_or_default();
                reason.trim_start_matches("error: ").to_owned()
            }
            _ => "it cannot be compiled".to_owned(),
        })
}

/// The pattern in the `regex` crate's spelling.
fn respell(pattern: &str) -> Result<String, String> {
    let mut spelled = String::with_capacity(pattern.len() + 16);
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('d') => spelled.push_str("[0-9]"),
                Some('D') => spelled.push_str("[^0-9]"),
                Some('s') => spelled.push_str(r"[\t\n\f\r ]"),
                Some('S') => spelled.push_str(r"[^\t\n\f\r ]"),
                Some('w') => spelled.push_str("[0-9A-Za-z_]"),
                Some('W') => spelled.push_str("[^0-9A-Za-z_]"),
                Some(boundary @ ('b' | 'B')) if !in_class => {
                    spelled.push_str(r"(?-u:\");
                    spelled.push(boundary);
                    spelled.push(')');
                }
                escaped => {
                    spelled.push('\\');
                    spelled.extend(escaped);
                }
            },
            '[' if !in_class => {
                in_class = true;
                spelled.push('[');
                spelled.extend(characters.next_if_eq(&'^'));
                // A bracket closed at once is not empty: RE2 reads the `]` as an item.
                if characters.next_if_eq(&']').is_some() {
                    spelled.push_str(r"\]");
                }
            }
            '[' if characters.peek() == Some(&':') => {
                spelled.push('[');
                // `[:alpha:]` is copied whole; its `]` does not end the brackets around it.
                for inner in characters.by_ref() {
                    spelled.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            '[' => spelled.push_str(r"\["),
            ']' => {
                in_class = false;
                spelled.push(']');
            }
            '&' | '~' if in_class => {
                spelled.push('\\');
                spelled.push(character);
            }
            '-' if in_class && characters.peek() == Some(&'-') => {
                return Err(r"inside brackets, write `\-` for a minus beside another".to_owned());
            }
            _ => spelled.push(character),
        }
    }
    Ok(spelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ascii_as_in_re2() {
        let matches = |pattern: &str, text: &str| compile(pattern).expect(pattern).is_match(text);
        assert!(matches(r"^\d+$", "123"));
        assert!(!matches(r"^\d$", "٣"), "an Arabic digit is no digit in RE2");
        assert!(!matches(r"^\w$", "ä"));
        assert!(matches(r"^\W$", "ä"));
        assert!(!matches(r"^\s$", "\u{a0}"));
        assert!(!matches(r"^\s$", "\u{b}"), "a vertical tab is no space in RE2");
        assert!(matches(r"^[\d.]+$", "10.0"));
        assert!(matches(r"^[^\d]$", "a"));
        assert!(matches(r"ä\b", "aä") != matches(r"a\b", "äa"));
        assert!(matches("^.$", "ä"), "a dot is a character, not a byte");
    }

    #[test]
    fn brackets_are_flat_as_in_re2() {
        let matches = |pattern: &str, text: &str| compile(pattern).expect(pattern).is_match(text);
        assert!(matches("^[a[]$", "["));
        assert!(matches("^[a[b]]$", "[]"), "the class ends at the first bracket");
        assert!(matches("^[a&&b]$", "&"));
        assert!(matches("^[a~~b]$", "~"));
        assert!(matches("^[]a]$", "]"));
        assert!(matches("^[^]a]$", "b"));
        assert!(!matches("^[^]a]$", "]"));
        assert!(matches("^[[:alpha:]_]+$", "a_b"));
        assert!(matches(r"^\[a\]$", "[a]"));
        assert!(matches(r"^[\]]$", "]"));
        assert!(compile("^[+--]$").is_err_and(|reason| reason.contains(r"write `\-`")));
        assert!(matches(r"^[+-\-]$", ","), "a range may end in a minus");
        assert!(matches("^[a-]$", "-"));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        assert_eq!(compile("(a").expect_err("open"), "unclosed group");
        assert_eq!(compile("a**b|[").expect_err("open"), "unclosed character class");
        assert_eq!(
            compile("(?=a)").expect_err("look-around"),
            "look-around, including look-ahead and look-behind, is not supported"
        );
        assert_eq!(
            compile(r"\p{Greek}{1000}{1000}").expect_err("large"),
            "the pattern is too large once compiled"
        );
        assert!(compile(&"a".repeat(1025)).is_err());
        assert!(compile(&"(".repeat(1000)).is_err());
        assert!(compile(&format!("{}a{}", "(".repeat(200), ")".repeat(200))).is_err());
        assert!(compile("\\").is_err());
    }
}
