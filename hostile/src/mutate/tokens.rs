//! Damage to the tokens of a text: words, numbers, strings, brackets and other signs, whatever its grammar.

use super::{MAX_GROWTH, bytes, number};
use crate::draw::Draw;
use std::ops::Range;

/// Numbers and words at which readers of numbers fail.
const VALUES: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "1.5",
    "0.0",
    "-0.0",
    "1e400",
    "-1e400",
    "1e-400",
    "1e308",
    "3.5e38",
    "1e-45",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "null",
    "true",
    "false",
    "True",
    "[]",
    "{}",
    "''",
    "\"\"",
    "0x7fffffffffffffff",
    "0777",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "65536",
    "1000000",
    "1000000000",
    "1.",
    ".5",
    "1e",
    "-",
    "1f",
];

/// Damages a text once.
pub(super) fn damaged(draw: &mut Draw, text: &[u8], donor: &[u8]) -> Vec<u8> {
    let tokens = tokens_of(text);
    if tokens.is_empty() {
        return bytes::damaged(draw, text.to_vec(), donor);
    }
    let at = draw.below(tokens.len());
    let token = tokens[at].clone();
    let here = &text[token.clone()];
    match draw.below(12) {
        0 => with(text, &token, b""),
        1 => with(text, &token, &[here, b" ", here].concat()),
        2 | 3 => with(text, &token, other(draw, text, &tokens)),
        4 => with(text, &token, other(draw, donor, &tokens_of(donor))),
        5..=7 => value(draw, text, &tokens, at),
        8 => lines(draw, text, donor),
        9 => {
            let sign =
                draw.pick(&["{", "[", "(", "[[", "{\"a\":", "x {", "'", "\"", "\\", "#"]).copied().unwrap_or("{");
            let times = draw.few(MAX_GROWTH / sign.len());
            with(text, &(token.start..token.start), sign.repeat(times).as_bytes())
        }
        10 => with(text, &token, &repeated(draw, here)),
        _ => text[..token.start].to_vec(),
    }
}

/// The tokens: letters and digits with what stands in numbers, strings with their quotes, single other bytes. White
/// space is in none.
fn tokens_of(text: &[u8]) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let length = match byte {
            b'"' | b'\'' => rest.iter().skip(1).position(|b| *b == byte || *b == b'\n').map_or(rest.len(), |n| n + 2),
            _ if is_word(byte) => rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len()),
            _ => 1,
        };
        if !byte.is_ascii_whitespace() {
            tokens.push(at..at + length);
        }
        at += length;
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'+') || byte >= 0x80
}

/// The text with something else in place of a part.
fn with(text: &[u8], part: &Range<usize>, new: &[u8]) -> Vec<u8> {
    [&text[..part.start], new, &text[part.end..]].concat()
}

/// Some token.
fn other<'a>(draw: &mut Draw, text: &'a [u8], tokens: &[Range<usize>]) -> &'a [u8] {
    draw.pick(tokens).map_or(&[], |token| &text[token.clone()])
}

/// Another value in place of the next token that is a number, or of this token.
fn value(draw: &mut Draw, text: &[u8], tokens: &[Range<usize>], at: usize) -> Vec<u8> {
    let is_number = |token: &&Range<usize>| text[(*token).clone()].first().is_some_and(u8::is_ascii_digit);
    let token = tokens[at..].iter().find(is_number).unwrap_or(&tokens[at]);
    let new = match draw.below(3) {
        0 => number(draw).to_string(),
        1 => (number(draw) as i64).to_string(),
        _ => draw.pick(VALUES).copied().unwrap_or_default().to_owned(),
    };
    with(text, token, new.as_bytes())
}

/// Some lines doubled, removed, moved or taken from the donor.
fn lines(draw: &mut Draw, text: &[u8], donor: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
    let part = draw.span(lines.len(), 12);
    let to = draw.below(lines.len() + 1);
    let moved = lines[part.clone()].to_vec();
    match draw.below(4) {
        0 => drop(lines.drain(part)),
        1 => drop(lines.splice(to..to, moved)),
        2 => {
            lines.drain(part);
            let to = to.min(lines.len());
            lines.splice(to..to, moved);
        }
        _ => {
            let donors: Vec<&[u8]> = donor.split_inclusive(|b| *b == b'\n').collect();
            let taken = donors[draw.span(donors.len(), 12)].to_vec();
            lines.splice(to..to, taken);
        }
    }
    lines.concat()
}

/// A token many times, as one or as many.
fn repeated(draw: &mut Draw, token: &[u8]) -> Vec<u8> {
    let between = draw.pick(&["", " ", ",", "\n"]).copied().unwrap_or_default();
    let one = [token, between.as_bytes()].concat();
    let most = if draw.one_in(8) { MAX_GROWTH } else { 1000 };
    let times = draw.few(most / one.len().max(1) + 1);
    one.repeat(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_words_numbers_strings_and_signs() {
        let text = b"a_1 { x: -1.5e3, 'b c' \"d\n[0]";
        let tokens: Vec<&str> = tokens_of(text).into_iter().map(|t| std::str::from_utf8(&text[t]).unwrap()).collect();
        assert_eq!(tokens, ["a_1", "{", "x", ":", "-1.5e3", ",", "'b c'", "\"d\n", "[", "0", "]"]);
    }
}
