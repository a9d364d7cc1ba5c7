//! Replay: setting a consumer back, so that it sees events again.

use crate::positions::on_lane;
use crate::{Consumer, sql};
use kernel::{Error, Result};
use store::{HISTORY_LANE, Store, Tx};

/// What is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayOf {
    /// Every lane of every shard, from the first event.
    All,
    /// Every lane of one shard, from the first event, those included that moved tenants brought along.
    Shard(u16),
    /// One lane, from the event after a sequence. Only for consumers without a reset.
    Lane {
        /// The shard.
        shard: u16,
        /// The lane.
        lane: u16,
        /// The last event that is not seen again.
        after_sequence: i64,
    },
}

/// See [`crate::Log::replay`].
pub(crate) async fn replay(store: &Store, consumer: &Consumer, of: ReplayOf) -> Result<()> {
    match of {
        ReplayOf::All => {
            for shard in 0..store.shards() {
                whole_shard(store, consumer, shard).await?;
            }
            Ok(())
        }
        ReplayOf::Shard(shard) => whole_shard(store, consumer, shard).await,
        ReplayOf::Lane { shard, lane, after_sequence } => {
            if consumer.reset.is_some() {
                return Err(Error::failed_precondition(
                    "log.replay_whole_shard",
                    "this consumer clears its projection for a replay, so only a whole shard can be replayed, from the first event",
                ));
            }
            if lane >= store.lanes(shard) {
                return Err(Error::not_found("log.lane_not_found", "there is no such lane"));
            }
            if after_sequence < 0 {
                return Err(Error::field("after_sequence", "too_small", "sequences begin at 0, which is before the first event"));
            }
            let back = OneLane { consumer: consumer.name, lane: lane as i16, after_sequence };
            store.write(on_lane(shard, back.lane).deadline_ms(DEADLINE_MS), set_back_lane, back).await
        }
    }
}

/// Clearing a projection may take a while.
const DEADLINE_MS: u32 = 120_000;

async fn whole_shard(store: &Store, consumer: &Consumer, shard: u16) -> Result<()> {
    if shard >= store.shards() {
        return Err(Error::not_found("log.lane_not_found", "there is no such shard"));
    }
    store.write(on_lane(shard, 0).deadline_ms(DEADLINE_MS), set_back_shard, *consumer).await
}

/// From the first event: first the history lane, while the others wait.
fn set_back_shard(tx: &mut Tx<'_>, consumer: &Consumer) -> Result<()> {
    // The positions come first: taking their rows waits for effects that are under way on other lanes, and stops new ones.
    tx.exec(sql::HOLD_LANES, (consumer.name,))?;
    tx.exec(sql::END_HISTORY, (consumer.name,))?;
    tx.exec(sql::CREATE_POSITION, (consumer.name, HISTORY_LANE, 0_i64))?;
    tx.exec(sql::FORGET_ALL, (consumer.name,))?;
    match consumer.reset {
        Some(reset) => reset(tx),
        None => Ok(()),
    }
}

struct OneLane {
    consumer: &'static str,
    lane: i16,
    after_sequence: i64,
}

fn set_back_lane(tx: &mut Tx<'_>, back: &OneLane) -> Result<()> {
    let (sequence, _): (i64, bool) = tx
        .opt(sql::TAKE_POSITION, (back.consumer, back.lane))?
        .ok_or_else(|| Error::not_found("log.lane_not_found", "there is no such lane"))?;
    if back.after_sequence > sequence {
        return Err(Error::failed_precondition("log.replay_ahead", "the consumer has not come that far yet; a replay never skips events"));
    }
    tx.exec(sql::FORGET_AFTER, (back.consumer, back.lane, back.after_sequence))?;
    tx.exec(sql::SET_BACK_LANE, (back.consumer, back.lane, back.after_sequence))
}
