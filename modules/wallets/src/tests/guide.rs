//! Runs the examples of docs/wallets.md, so that they are true.
//!
//! An example is a `curl` line (continued with `\`), and in the line after it, as a comment, the status that it is answered with and what
//! of the answer the next ones use: `# 201 ALICE=wallet_id`.

use super::world::{World, setup};
use axum::http::Method;
use serde_json::Value;
use std::collections::HashMap;
use testkit::TestApp;

const GUIDE: &str = include_str!("../../../../docs/wallets.md");

/// Splits a command into its words, with quotes as a shell has them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    for c in command.chars() {
        match (c, quote) {
            ('\'' | '"', None) => (quote, any) = (Some(c), true),
            (c, Some(q)) if c == q => quote = None,
            (c, None) if c.is_whitespace() => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (c, _) => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

fn filled(text: &str, known: &HashMap<String, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
}

testkit::both_engines! {
    setup: setup;

    async fn its_examples_run(app: TestApp) {
        let world = World::new(app);
        let mut known = HashMap::from([("API".to_owned(), String::new()), ("KEY".to_owned(), "the-key".to_owned())]);
        let mut run = 0;
        let blocks = GUIDE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        let lines: Vec<String> = blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("curl ")) {
            let words = words(&filled(line, &known));
            let expected = lines.get(at + 1).and_then(|line| line.strip_prefix("# ")).unwrap_or_else(|| panic!("no answer to {line}"));
            let (mut method, mut path, mut body, mut headers) = (Method::GET, String::new(), None, Vec::new());
            let mut rest = words.into_iter().skip(1);
            while let Some(word) = rest.next() {
                match word.as_str() {
                    "-X" => method = rest.next().expect("a method").parse().expect("a method"),
                    "-H" => headers.push(rest.next().expect("a header")),
                    "-d" => body = rest.next(),
                    _ => path = word,
                }
            }
            if body.is_some() && method == Method::GET {
                method = Method::POST;
            }
            let mut request = world.acme.request(method, &path);
            for (name, value) in headers.iter().filter_map(|header| header.split_once(": ")).filter(|(name, _)| *name != "Authorization") {
                request = request.header(name, value);
            }
            if let Some(body) = body {
                request = request.raw("application/json", body);
            }
            let answer = request.send().await;
            let mut expected = expected.split(' ');
            assert_eq!(expected.next(), Some(answer.status.as_str()), "{line}\n{}", answer.json);
            for (name, field) in expected.filter_map(|word| word.split_once('=')) {
                let value = field.split('.').fold(&answer.json, |value, part| &value[part]);
                match name.chars().all(|c| c.is_ascii_uppercase()) {
                    true => drop(known.insert(name.to_owned(), value.as_str().unwrap_or_else(|| panic!("{line}: no {field} in {}", answer.json)).to_owned())),
                    // In small letters: the answer has this value.
                    false => assert_eq!(&answer.json[name], &Value::from(field), "{line}"),
                }
            }
            run += 1;
        }
        assert!(run >= 15, "only {run} examples were found");
        world.app.advance_ms(86_400_000).await;
    }
}
