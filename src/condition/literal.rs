//! Texts and numbers as they are written in an expression.

use super::syntax::Literal;

/// What is wrong with a literal, and where in it: an offset and a length in bytes.
#[derive(Debug, PartialEq)]
pub(super) struct LiteralError {
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

impl LiteralError {
    fn whole(text: &str, message: String, hint: &'static str) -> Self {
        Self { at: 0, len: text.len(), message, hint: Some(hint) }
    }
}

/// Decimal or `0x…` digits, negated if a minus stands before them: only so can the least
/// integer be written.
pub(super) fn integer(digits: &str, negative: bool) -> Result<Literal, LiteralError> {
    let magnitude = magnitude(digits);
    let value = if negative {
        magnitude.and_then(|magnitude| 0_i64.checked_sub_unsigned(magnitude))
    } else {
        magnitude.and_then(|magnitude| i64::try_from(magnitude).ok())
    };
    value.map(Literal::Int).ok_or_else(|| {
        LiteralError::whole(
            digits,
            format!("`{digits}` does not fit an int"),
            "an int has 64 bits with a sign; write an unsigned number as `18446744073709551615u`",
        )
    })
}

/// Digits followed by `u`.
pub(super) fn unsigned(text: &str) -> Result<Literal, LiteralError> {
    magnitude(text.trim_end_matches(['u', 'U'])).map(Literal::Uint).ok_or_else(|| {
        LiteralError::whole(text, format!("`{text}` does not fit a uint"), "a uint has 64 bits")
    })
}

fn magnitude(digits: &str) -> Option<u64> {
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// A number with a fraction or an exponent.
pub(super) fn double(text: &str) -> Result<Literal, LiteralError> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Literal::Double(value)),
        Ok(_) | Err(_) => Err(LiteralError::whole(
            text,
            format!("`{text}` does not fit a double"),
            "the largest double is about 1.8e308",
        )),
    }
}

/// A quoted text, raw or with escapes, in one or three quotes of either kind.
pub(super) fn text(source: &str) -> Result<Literal, LiteralError> {
    let unprefixed = source.trim_start_matches(['r', 'R']);
    let quotes =
        if unprefixed.len() >= 6 && (unprefixed.starts_with("\"\"\"") || unprefixed.starts_with("'''")) {
            3
        } else {
            1
        };
    let body = unprefixed.get(quotes..unprefixed.len().saturating_sub(quotes)).unwrap_or_default();
    if unprefixed.len() < source.len() {
        return Ok(Literal::String(body.to_owned()));
    }
    unescape(body, quotes).map(Literal::String)
}

/// Replaces escapes; `offset` is where `body` begins in the literal.
fn unescape(body: &str, offset: usize) -> Result<String, LiteralError> {
    let mut decoded = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        decoded.push_str(plain);
        let position = offset + body.len() - escape.len();
        let (character, len) = escaped(escape).map_err(|(len, message)| LiteralError {
            at: position,
            len,
            message,
            hint: Some("escapes are \\n \\t \\\" \\' \\\\ and the like, \\x41, \\u00e4, \\U0001f600, \\101"),
        })?;
        decoded.push(character);
        rest = escape.get(len..).unwrap_or_default();
    }
    decoded.push_str(rest);
    Ok(decoded)
}

/// The character an escape stands for and the escape's length, or its length and what is wrong.
fn escaped(escape: &str) -> Result<(char, usize), (usize, String)> {
    let mut characters = escape.chars().skip(1);
    let Some(kind) = characters.next() else { return Err((1, "`\\` at the end of the text".to_owned())) };
    let simple = |character| Ok((character, 2));
    match kind {
        '\\' | '?' | '"' | '\'' | '`' => simple(kind),
        'a' => simple('\u{07}'),
        'b' => simple('\u{08}'),
        'f' => simple('\u{0C}'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\u{0B}'),
        'x' | 'X' => code_point(escape, 2, 2, 16),
        'u' => code_point(escape, 2, 4, 16),
        'U' => code_point(escape, 2, 8, 16),
        '0'..='3' => code_point(escape, 1, 3, 8),
        _ => Err((1 + kind.len_utf8(), format!("`\\{kind}` is not an escape"))),
    }
}

/// The character whose number is `len` digits from `start` on.
fn code_point(escape: &str, start: usize, len: usize, radix: u32) -> Result<(char, usize), (usize, String)> {
    let end = start + len;
    let written = escape.char_indices().nth(end).map_or(escape.len(), |(at, _)| at);
    let shown = escape.get(..written).unwrap_or(escape);
    escape
        .get(start..end)
        .filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))
        .and_then(|digits| u32::from_str_radix(digits, radix).ok())
        .and_then(char::from_u32)
        .map(|character| (character, end))
        .ok_or_else(|| (written, format!("`{shown}` is not the number of a character")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(source: &str) -> String {
        match text(source) {
            Ok(Literal::String(decoded)) => decoded,
            other => panic!("{source}: {other:?}"),
        }
    }

    #[test]
    fn texts_lose_their_quotes_and_escapes() {
        assert_eq!(decoded("''"), "");
        assert_eq!(decoded("'a'"), "a");
        assert_eq!(decoded(r#""a'b""#), "a'b");
        assert_eq!(decoded(r#"'''a'b"c'''"#), "a'b\"c");
        assert_eq!(decoded("\"\"\"two\nlines\"\"\""), "two\nlines");
        assert_eq!(
            decoded(r"'\a\b\f\n\r\t\v\\\?\`\'\x41\X42\u00e4\U0001f600\103'"),
            "\u{7}\u{8}\u{c}\n\r\t\u{b}\\?`'ABä😀C"
        );
        assert_eq!(decoded(r"r'\d+'"), r"\d+");
        assert_eq!(decoded("R\"\"\"\\\"\"\""), "\\");
        assert_eq!(decoded("'ünïcode'"), "ünïcode");
    }

    #[test]
    fn bad_escapes_are_located() {
        let error = |source: &str| {
            let error = text(source).expect_err(source);
            (error.message, source[error.at..error.at + error.len].to_owned())
        };
        let check = |source: &str, message: &str, underlined: &str| {
            assert_eq!(error(source), (message.to_owned(), underlined.to_owned()), "{source}");
        };
        check(r"'ä\q'", r"`\q` is not an escape", r"\q");
        check(r"'a\é'", r"`\é` is not an escape", r"\é");
        check(r"'\u12'", r"`\u12` is not the number of a character", r"\u12");
        check(r"'\ud800x'", r"`\ud800` is not the number of a character", r"\ud800");
        check(r"'\U00110000'", r"`\U00110000` is not the number of a character", r"\U00110000");
        check(r"'\xé0'", r"`\xé0` is not the number of a character", r"\xé0");
        check(r"'\x+1'", r"`\x+1` is not the number of a character", r"\x+1");
        check(r"'\18'", r"`\18` is not the number of a character", r"\18");
        check(r"'''\x'''", r"`\x` is not the number of a character", r"\x");
    }

    #[test]
    fn numbers_keep_all_their_bits() {
        assert_eq!(integer("9223372036854775807", false), Ok(Literal::Int(i64::MAX)));
        assert_eq!(integer("9223372036854775808", true), Ok(Literal::Int(i64::MIN)));
        assert_eq!(integer("0xFF", true), Ok(Literal::Int(-255)));
        assert_eq!(unsigned("0xffffffffffffffffu"), Ok(Literal::Uint(u64::MAX)));
        assert_eq!(double("1.5e3"), Ok(Literal::Double(1500.0)));
        assert_eq!(double(".5"), Ok(Literal::Double(0.5)));
        assert_eq!(
            integer("9223372036854775808", false).expect_err("beyond").message,
            "`9223372036854775808` does not fit an int"
        );
        assert!(integer("9223372036854775809", true).is_err());
        assert!(unsigned("18446744073709551616u").is_err());
        assert_eq!(double("1e400").expect_err("beyond").message, "`1e400` does not fit a double");
    }
}
