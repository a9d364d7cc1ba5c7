//! Reads Rust source just well enough for the tidy rules: what is code, what is a literal, what is a comment, what is a test.

/// A string literal: where it begins, and its text as written between the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) at: usize,
    pub(crate) text: String,
}

/// A Rust file, taken apart.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file with comments and literals blanked out, byte for byte as long as the file. A string literal is left as a pair of quotes.
    pub(crate) code: String,
    /// The string literals, in order.
    pub(crate) literals: Vec<Literal>,
    /// Names of the modules declared with `#[cfg(test)] mod name;`.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    /// Takes `text` apart.
    pub(crate) fn read(text: &str) -> Source {
        let (code, literals) = blank(text);
        Source { code, literals, test_modules: Vec::new() }
    }

    /// The same without what is only compiled for tests.
    pub(crate) fn without_tests(mut self) -> Source {
        const MARK: &str = "#[cfg(test)]";
        while let Some(start) = self.code.find(MARK) {
            let item = &self.code[start + MARK.len()..];
            let end = start + MARK.len() + item_length(item);
            if let Some(name) = declared_module(&self.code[start + MARK.len()..end]) {
                self.test_modules.push(name.to_owned());
            }
            let blanked: String = self.code[start..end].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
            self.code.replace_range(start..end, &blanked);
            self.literals.retain(|literal| !(start..end).contains(&literal.at));
        }
        self
    }

    /// The literal that begins at `at`, if one does.
    pub(crate) fn literal_at(&self, at: usize) -> Option<&str> {
        self.literals.iter().find(|literal| literal.at == at).map(|literal| literal.text.as_str())
    }
}

/// The line of byte `at` of `text`, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Whether `text` holds `word` with nothing of a name before or after it; where.
pub(crate) fn find_word(text: &str, word: &str) -> Option<usize> {
    let part_of_name = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = text.as_bytes();
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|at| !part_of_name(at.checked_sub(1).and_then(|before| bytes.get(before))) && !part_of_name(bytes.get(at + word.len())))
}

/// How long the item is that begins here, attributes included: to the end of its block, or to its semicolon.
fn item_length(item: &str) -> usize {
    let mut depth = 0_usize;
    let mut block = false;
    for (at, byte) in item.bytes().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => {
                block |= byte == b'{' && depth == 0;
                depth += 1;
            }
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && block {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

fn declared_module(item: &str) -> Option<&str> {
    let words: Vec<&str> = item.strip_suffix(';')?.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "mod")?;
    words.get(at + 1).copied()
}

/// Replaces comments and literals by blanks, and collects the string literals.
fn blank(text: &str) -> (String, Vec<Literal>) {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut literals = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let in_name = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let (length, content) = if rest.starts_with(b"//") {
            (rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with(b"/*") {
            (block_comment(rest), None)
        } else if let Some((length, content)) = string(rest).filter(|_| !in_name || rest[0] == b'"') {
            (length, Some(content))
        } else if let Some(length) = character(rest) {
            (length, None)
        } else {
            at += 1;
            continue;
        };
        out[at..at + length].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        if let Some(content) = content {
            out[at] = b'"';
            out[at + length - 1] = b'"';
            literals.push(Literal { at, text: text[at + content.start..at + content.end].to_owned() });
        }
        at += length;
    }
    // Whole characters are kept or blanked, so this is the file's own UTF-8.
    (String::from_utf8_lossy(&out).into_owned(), literals)
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string literal that begins here and where its content is: `"..."`, `b"..."`, `c"..."`, `r#"..."#`, `br"..."`.
fn string(rest: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    let prefix = rest.iter().take(2).take_while(|b| matches!(b, b'b' | b'c' | b'r')).count();
    let raw = rest[..prefix].contains(&b'r');
    let hashes = if raw { rest[prefix..].iter().take_while(|b| **b == b'#').count() } else { 0 };
    let start = prefix + hashes + 1;
    if rest.get(start - 1) != Some(&b'"') {
        return None;
    }
    let mut at = start;
    while at < rest.len() {
        match rest[at] {
            b'\\' if !raw => at += 2,
            b'"' if rest[at + 1..].iter().take_while(|b| **b == b'#').count() >= hashes => return Some((at + 1 + hashes, start..at)),
            _ => at += 1,
        }
    }
    Some((rest.len(), start..rest.len()))
}

/// The length of the character literal that begins here; a lifetime is none.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.first() != Some(&b'\'') {
        return None;
    }
    match rest.get(1)? {
        b'\\' => rest.iter().skip(3).position(|b| *b == b'\'').map(|end| end + 4),
        // One character, of up to four bytes, and a quote after it.
        first => {
            let length = match first {
                0x00..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(text: &str) -> Vec<String> {
        Source::read(text).literals.into_iter().map(|literal| literal.text).collect()
    }

    #[test]
    fn literals_and_comments_are_told_apart() {
        for (text, expected) in [
            (r#"let a = "one"; // "two""#, vec!["one"]),
            (r##"r#"a "quoted" word"# "b""##, vec![r#"a "quoted" word"#, "b"]),
            (r#""escaped \" quote" "next""#, vec![r#"escaped \" quote"#, "next"]),
            (r#"/* "no" /* nested "no" */ "no" */ b"yes""#, vec!["yes"]),
            (r#"'"' "a" '\'' "b" '\u{22}' "c""#, vec!["a", "b", "c"]),
            (r#"fn f<'a>(x: &'a str) { "ü" } '€' "d""#, vec!["ü", "d"]),
            (r#"for"x" br"\" "y""#, vec!["x", r"\", "y"]),
            ("\"never ends", vec!["never ends"]),
        ] {
            assert_eq!(literals(text), expected, "{text}");
        }
    }

    #[test]
    fn code_keeps_its_length_and_lines() {
        let text = "let a = \"x\ny\"; // é\nnow()";
        let code = Source::read(text).code;
        assert_eq!(code.len(), text.len());
        assert_eq!(line_of(&code, code.find("now").expect("kept")), 3);
        assert!(!code.contains('é'));
    }

    #[test]
    fn tests_are_left_out() {
        let text = "fn live() { \"a\" }\n#[cfg(test)]\nmod tests { fn f() { \"b\" } }\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod simulation;\n#[cfg(test)]\nfn helper(x: [u8; 2]) { \"c\" }\nconst D: &str = \"d\";";
        let source = Source::read(text).without_tests();
        assert_eq!(source.literals.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["a", "d"]);
        assert_eq!(source.test_modules, ["simulation"]);
        assert_eq!(source.code.len(), text.len());
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(find_word("SELECT 1 FROM orders_orders", "orders_orders"), Some(14));
        assert_eq!(find_word("SELECT 1 FROM orders_orders_old", "orders_orders"), None);
        assert_eq!(find_word("x.orders_orders", "orders_orders"), Some(2));
    }
}
