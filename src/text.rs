//! Texts that somebody else wrote, made fit to be logged and shown: of a bounded length, and
//! without characters that a terminal obeys.

use std::borrow::Cow;
use std::fmt::Write;

use crate::bounds::SHOWN;

/// A text of others for a person: cut after [`SHOWN`] bytes, and [`escaped`].
pub fn shown(text: &str) -> Cow<'_, str> {
    match cut(text, SHOWN) {
        Cow::Borrowed(whole) => escaped(whole),
        Cow::Owned(cut) => Cow::Owned(escaped(&cut).into_owned()),
    }
}

/// A text of at most so many bytes; an ellipsis says that there was more.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    const ELLIPSIS: char = '…';
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len_utf8()));
    Cow::Owned(format!("{}{ELLIPSIS}", &text[..end]))
}

/// A text in which control characters, and those that turn the direction of writing, are written
/// out: `\n`, `\u{1b}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_obeyed(character) {
            true => plain.extend(character.escape_debug()),
            false => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

/// The same for what has several lines.
pub fn escaped_lines(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line
            .strip_suffix('\n')
            .map_or((line, ""), |line| (line, "\n"));
        // Writing to a string cannot fail.
        let _ = write!(plain, "{}{end}", escaped(line));
    }
    plain
}

/// Whether a character does something to the text around it, on a terminal or in a log.
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_terminal_obeys_what_is_shown() {
        assert_eq!(shown("plain – text"), "plain – text");
        assert_eq!(
            shown("a\x1b[2Jb\r\nc\u{9b}31m\u{7f}\u{202e}\0"),
            "a\\u{1b}[2Jb\\r\\nc\\u{9b}31m\\u{7f}\\u{202e}\\0"
        );
        assert_eq!(escaped_lines("a\x07\nb\n"), "a\\u{7}\nb\n");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöüß", 7), "äö…");
        assert_eq!(cut("äöüß", 6), "ä…");
        let long = "x".repeat(10 * SHOWN);
        assert_eq!(shown(&long).len(), SHOWN);
        assert!(shown(&long).ends_with("x…"));
    }
}
