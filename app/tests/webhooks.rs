//! Webhooks by the built binary: what it sends is verified by the commands of docs/webhooks.md.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Sandbox;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

/// The shell commands of the section that verifies.
fn documented() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/webhooks.md")).unwrap();
    let (_, rest) = page.split_once("```sh\n").expect("a block of shell");
    rest.split_once("```").unwrap().0.to_owned()
}

fn verdict(headers: &[(String, String)], body: &str, secret: &str) -> String {
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(documented()).env("SECRET", secret).env("BODY", body);
    shell.env("ID", header("webhook-id")).env("TIMESTAMP", header("webhook-timestamp")).env("SIGNATURES", header("webhook-signature"));
    let ended = shell.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap().trim().to_owned()
}

/// Takes one request, and answers 204.
fn take(listener: &TcpListener) -> (Vec<(String, String)>, String) {
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).unwrap();
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let headers: Vec<(String, String)> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, length)| length.parse().unwrap());
        if body.len() >= length {
            stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            return (headers, body.to_owned());
        }
    }
}

#[test]
fn what_is_sent_verifies_as_documented() {
    let sandbox = Sandbox::new();
    sandbox.run(&["tenant", "create", "hooked"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "hooked", "--json"]).expect(0).json();
    let key = key["key"].as_str().unwrap();
    let server = sandbox.serve(&["serve", "--set", "webhooks.allow_private=true"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let body = json!({ "url": url, "events": ["order.placed"] }).to_string();
    let (status, made) = server.request("POST", "/api/v1/webhooks/endpoints", Some(key), &body);
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let secret = made["secret"].as_str().unwrap();

    let order = json!({ "currency": "EUR", "country": "NL", "lines": [{ "sku": "TEA", "description": "Tea", "quantity": 1, "unit_price": "4.95" }] });
    let (status, order) = server.request("POST", "/api/v1/orders", Some(key), &order.to_string());
    assert_eq!(status, 201, "{order}");
    let (headers, message) = take(&listener);
    assert_eq!(verdict(&headers, &message, secret), "verified", "{headers:?}");
    assert_eq!(verdict(&headers, &message.replace("order.placed", "order.closed"), secret), "forged");
    assert_eq!(verdict(&headers, &message, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "forged");
    let message: Value = serde_json::from_str(&message).unwrap();
    let order: Value = serde_json::from_str(&order).unwrap();
    assert_eq!((&message["type"], &message["subject"]), (&json!("order.placed"), &order["order_id"]));
    assert_eq!(server.stop(), Some(0));

    // Without the option the same address is refused.
    let server = sandbox.serve(&["serve"]);
    let (status, refused) = server.request("POST", "/api/v1/webhooks/endpoints", Some(key), &body);
    assert_eq!(status, 400, "{refused}");
    assert_eq!(server.stop(), Some(0));
}
