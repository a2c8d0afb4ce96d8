//! Whether the loops of [`app`](crate::app) make progress: what `/healthz`, the watchdog of systemd
//! and the dead-man ping go by.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often the same refusal is said.
const SAY_AGAIN: Duration = Duration::from_secs(60 * 60);

/// What must not stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loop {
    Poll,
    Plan,
    Deliver,
}

impl Loop {
    pub fn as_str(self) -> &'static str {
        match self {
            Loop::Poll => "poll",
            Loop::Plan => "plan",
            Loop::Deliver => "deliver",
        }
    }
}

/// Heartbeats of the loops, by monotonic time: while a machine sleeps nothing is stuck.
#[derive(Debug)]
pub struct Progress {
    bound: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    beats: BTreeMap<Loop, Instant>,
    done: Instant,
    /// By feed, whether the last poll succeeded.
    tried: BTreeMap<String, bool>,
    /// Why the database takes nothing, and when that was last said.
    refusal: Option<(String, Instant)>,
}

impl Progress {
    /// A loop that gives no sign for longer than `bound` is stuck; now all have given one.
    pub fn new(bound: Duration) -> Progress {
        let now = Instant::now();
        let beats = [Loop::Poll, Loop::Plan, Loop::Deliver].map(|one| (one, now)).into();
        Progress {
            bound,
            state: Mutex::new(State { beats, done: now, tried: BTreeMap::new(), refusal: None }),
        }
    }

    /// The loop has come round once more.
    pub fn beat(&self, one: Loop) {
        self.lock().beats.insert(one, Instant::now());
    }

    /// The database refuses to take anything. True where that is worth a line in the log.
    pub fn refused(&self, why: &str) -> bool {
        let mut state = self.lock();
        match &state.refusal {
            Some((said, at)) if said == why && at.elapsed() < SAY_AGAIN => false,
            _ => {
                state.refusal = Some((why.to_owned(), Instant::now()));
                true
            }
        }
    }

    /// The database takes what it is given.
    pub fn accepted(&self) {
        self.lock().refusal = None;
    }

    /// Why the database takes nothing, where that is so.
    pub fn refusal(&self) -> Option<String> {
        self.lock().refusal.as_ref().map(|(why, _)| why.clone())
    }

    /// Everything that was due has been attempted.
    pub fn all_done(&self) {
        self.lock().done = Instant::now();
    }

    /// How long ago that was.
    pub fn done_for(&self) -> Duration {
        self.lock().done.elapsed()
    }

    /// A feed has been asked; `read` where it could be read.
    pub fn tried(&self, feed: &str, read: bool) {
        self.lock().tried.insert(feed.to_owned(), read);
    }

    pub fn was_tried(&self, feed: &str) -> bool {
        self.lock().tried.contains_key(feed)
    }

    /// One line for people: how many feeds were tried, and which of them could not be read.
    pub fn summary(&self) -> String {
        let state = self.lock();
        let failing: Vec<&str> =
            state.tried.iter().filter(|(_, read)| !**read).map(|(feed, _)| feed.as_str()).collect();
        let count = state.tried.len();
        let feeds = if count == 1 { "feed" } else { "feeds" };
        match failing.as_slice() {
            [] => format!("watching {count} {feeds}"),
            failing => format!("watching {count} {feeds}; not readable: {}", failing.join(", ")),
        }
    }

    /// How long ago each loop gave its last sign.
    pub fn ages(&self) -> Vec<(Loop, Duration)> {
        self.lock().beats.iter().map(|(one, beat)| (*one, beat.elapsed())).collect()
    }

    /// The loops that have given no sign for too long, and for how long.
    pub fn stuck(&self) -> Vec<(Loop, Duration)> {
        let mut ages = self.ages();
        ages.retain(|(_, age)| *age > self.bound);
        ages
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_summary_names_feeds_that_cannot_be_read() {
        let progress = Progress::new(Duration::from_secs(1));
        assert_eq!(progress.summary(), "watching 0 feeds");
        progress.tried("site", true);
        assert_eq!(progress.summary(), "watching 1 feed");
        progress.tried("club", false);
        assert_eq!(progress.summary(), "watching 2 feeds; not readable: club");
        progress.tried("club", true);
        assert_eq!(progress.summary(), "watching 2 feeds");
    }

    #[tokio::test]
    async fn a_loop_that_gives_no_sign_is_stuck_until_it_does() {
        let progress = Progress::new(Duration::from_millis(20));
        assert_eq!(progress.stuck(), []);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let names: Vec<Loop> = progress.stuck().into_iter().map(|(one, _)| one).collect();
        assert_eq!(names, [Loop::Poll, Loop::Plan, Loop::Deliver]);
        let patient = Progress { bound: Duration::from_secs(3600), ..progress };
        assert_eq!(patient.stuck(), []);
    }
}
