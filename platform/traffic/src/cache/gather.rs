//! Reads of many callers in one: whoever asks while a read is under way goes with the next. With many callers a lookup then costs Redis and
//! this process a fraction of a round trip.

use crate::link::Link;
use redis::{Value, from_redis_value};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Redis's word for the time of a key that is not there.
const NONE: i64 = -2;
/// Callers of one read.
const MOST: usize = 256;
/// Callers that wait for the next ones.
const WAITING: usize = 65_536;

/// What a caller wants: the values of these keys, and perhaps how long they are kept.
struct Want {
    keys: Vec<String>,
    timed: bool,
    done: oneshot::Sender<Vec<Got>>,
}

/// The value of a key, and how many milliseconds it has left, if that was asked for (negative: unknown).
pub(crate) type Got = (Option<Vec<u8>>, i64);

/// Reads from one Redis.
pub(crate) struct Gather(mpsc::Sender<Want>);

impl Gather {
    /// Reads until it is dropped.
    pub(crate) fn new(link: Arc<Link>) -> Gather {
        let (send, wanted) = mpsc::channel(WAITING);
        tokio::spawn(gather(link, wanted));
        Gather(send)
    }

    /// What these keys hold. None when Redis is away or did not answer in time.
    pub(crate) async fn read(&self, keys: Vec<String>, timed: bool) -> Option<Vec<Got>> {
        let (done, got) = oneshot::channel();
        self.0.send(Want { keys, timed, done }).await.ok()?;
        got.await.ok()
    }
}

async fn gather(link: Arc<Link>, mut wanted: mpsc::Receiver<Want>) {
    let mut some = Vec::with_capacity(MOST);
    while wanted.recv_many(&mut some, MOST).await > 0 {
        let mut pipe = redis::pipe();
        let all = pipe.cmd("MGET");
        for key in some.iter().flat_map(|want| &want.keys) {
            all.arg(key);
        }
        for key in some.iter().filter(|want| want.timed).flat_map(|want| &want.keys) {
            pipe.pttl(key);
        }
        let answer = link.ask(|mut connection| async move { pipe.query_async::<Vec<Value>>(&mut connection).await }).await;
        let mut answers = answer.unwrap_or_default().into_iter();
        let values = answers.next().and_then(|all| from_redis_value::<Vec<Option<Vec<u8>>>>(all).ok()).unwrap_or_default();
        let mut values = values.into_iter();
        for want in some.drain(..) {
            let mut got: Vec<Got> = values.by_ref().take(want.keys.len()).map(|value| (value, NONE)).collect();
            for (_, left_ms) in got.iter_mut().filter(|_| want.timed) {
                *left_ms = answers.next().and_then(|left| from_redis_value(left).ok()).unwrap_or(NONE);
            }
            // Whoever is not answered learns it from the end of the channel.
            if got.len() == want.keys.len() {
                let _ = want.done.send(got);
            }
        }
    }
}
