//! Rust and C++ as tokens: words, literals, `::` and single signs. Comments and lifetimes are left out.

/// Splits a source into its tokens. A string's token is its content after one `"`; a character's is `'`.
pub fn tokens(source: &str) -> Vec<&str> {
    let (bytes, mut at, mut found) = (source.as_bytes(), 0, vec![]);
    while at < bytes.len() {
        let rest = &source[at..];
        let length = match bytes[at] {
            byte if byte.is_ascii_whitespace() => 1,
            b'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => block_comment(rest),
            b'"' => {
                let length = string(rest);
                found.push(&rest[..length - 1]);
                length
            }
            b'\'' => match character(rest) {
                Some(length) => {
                    found.push("'");
                    length
                }
                None => 1 + word(&rest[1..]),
            },
            b'r' | b'b' | b'c' if prefixed(rest).is_some() => {
                let (prefix, length) = prefixed(rest).unwrap();
                found.push(&rest[prefix..length]);
                length
            }
            byte if byte == b'_' || byte.is_ascii_alphanumeric() => {
                let length = word(rest);
                found.push(&rest[..length]);
                length
            }
            _ => {
                let sign = rest.chars().next().map_or(1, char::len_utf8);
                let length = if rest.starts_with("::") { 2 } else { sign };
                found.push(&rest[..length]);
                length
            }
        };
        at += length;
    }
    found
}

/// Whether a token is a name or a keyword.
pub fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
}

fn word(rest: &str) -> usize {
    rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len())
}

/// The length of a comment that may hold others.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..(at + 2).min(rest.len())] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string that begins here, with both its quotes.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (i, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal that begins here; none if it is a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    match chars.next()?.1 {
        '\\' => rest[3..].find('\'').map(|end| end + 4),
        _ => chars.next().filter(|(_, c)| *c == '\'').map(|(end, _)| end + 1),
    }
}

/// The lengths of the prefix and of the whole of a raw string, a string of bytes, a byte or a raw name.
fn prefixed(rest: &str) -> Option<(usize, usize)> {
    let letters = rest.find(|c| !matches!(c, 'r' | 'b' | 'c'))?;
    let (prefix, after) = rest.split_at(letters);
    let hashes = after.len() - after.trim_start_matches('#').len();
    match after[hashes..].bytes().next()? {
        b'"' if prefix.ends_with('r') => {
            let end = format!("\"{}", "#".repeat(hashes));
            let content = letters + hashes + 1;
            let length = rest[content..].find(&end).map_or(rest.len(), |i| content + i + end.len());
            Some((letters + hashes, length))
        }
        b'"' if hashes == 0 && prefix.len() == 1 => Some((letters, letters + string(after))),
        b'\'' if prefix == "b" => Some((letters, letters + character(after)?)),
        _ if prefix == "r" && hashes == 1 => Some((2, 2 + word(&after[1..]))),
        _ => None,
    }
}
