//! One order sent by two hundred threads at once with one key.

use crate::client::{Client, Request};
use crate::common::Sandbox;
use crate::world::audit;
use serde_json::json;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const THREADS: usize = 200;

pub fn walk(sandbox: &Sandbox) {
    sandbox.run(&["tenant", "create", "once"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "once", "--json"]).expect(0).json();
    let key = key["key"].as_str().unwrap();
    // However slow the machine is, nobody is refused for it.
    let server = sandbox.serve(&["serve", "--set", "store.queue_wait_ms=0"]);
    let url = server.serving["url"].as_str().unwrap();
    let order = |quantity: i64| {
        let line = json!({ "sku": "TEA-1", "description": "Tea", "quantity": quantity, "unit_price": "4.955", "tax_minor": 10 });
        json!({ "currency": "EUR", "country": "NL", "external_ref": "web-1", "lines": [line] })
    };
    let send = |quantity: i64| {
        let request = Request::new("POST", "/api/v1/orders").bearer(key).header("Idempotency-Key", "the-one").json(&order(quantity));
        let began = Instant::now();
        loop {
            let answer = Client::new(url).send(&request);
            // A busy machine may refuse: nothing was done, and with the key it is safe to send it again.
            if answer.status != 503 || began.elapsed() > Duration::from_secs(20) {
                return answer;
            }
            assert!(!answer.header("retry-after").is_empty(), "{}", answer.head);
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let all_there = Barrier::new(THREADS);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    all_there.wait();
                    send(2)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!((answer.status, answer.text()), (201, answers[0].text()));
        assert_eq!((answer.header("location"), answer.header("etag")), (answers[0].header("location"), answers[0].header("etag")));
    }
    let first = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count();
    assert_eq!(first, 1, "all but one are told that they are replays");
    let reused = send(3);
    assert_eq!((reused.status, reused.json()["code"].as_str()), (409, Some("idempotency.key_reused")), "{}", reused.text());
    let orders = Client::new(url).send(&Request::new("GET", "/api/v1/orders").bearer(key)).json();
    assert_eq!((orders["data"].as_array().unwrap().len(), orders["data"][0]["number"].as_i64()), (1, Some(1)), "{orders}");
    assert_eq!(server.stop(), Some(0));
    audit(sandbox);
}
