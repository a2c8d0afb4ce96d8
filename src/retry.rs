//! When a delivery that failed is tried again. Pure.

use std::time::Duration;

use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

/// Attempts after which a delivery is dead. With [`LONGEST`] between the later ones this is about
/// a day and a half: long enough for a weekend night's outage of a mail relay, and a reminder dies
/// earlier of its own `not_after`.
pub const MAX_ATTEMPTS: u32 = 50;

/// The longest wait before the second attempt.
pub const FIRST: Duration = Duration::from_secs(5);

/// The longest wait that the backoff itself asks for.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The longest wait that a server may ask for.
pub const LONGEST_HINT: Duration = Duration::from_secs(24 * 60 * 60);

/// When to try again after attempt number `attempt` (the first is 1) has failed at `now`.
///
/// The wait doubles from [`FIRST`] to [`LONGEST`]; of that, somewhere between half and all is
/// taken, so that deliveries which failed together do not come back together. Where in between
/// depends on `dedup_key` and `attempt` alone: the same question has the same answer. A server's
/// hint (`Retry-After`) is a floor, believed up to [`LONGEST_HINT`].
pub fn next_attempt(
    now: Timestamp,
    attempt: u32,
    server_hint: Option<Duration>,
    dedup_key: &str,
) -> Timestamp {
    let doublings = attempt.saturating_sub(1).min(31);
    let ceiling = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let mut seed = dedup_key.as_bytes().to_vec();
    seed.extend_from_slice(&attempt.to_le_bytes());
    let fraction = xxh3_64(&seed) as f64 / u64::MAX as f64;
    let backoff = ceiling.mul_f64(0.5 + fraction / 2.0);
    let wait = backoff.max(server_hint.unwrap_or_default().min(LONGEST_HINT));
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeff";

    fn wait(attempt: u32, hint: Option<u64>, key: &str) -> Duration {
        let now = Timestamp::UNIX_EPOCH;
        let then = next_attempt(now, attempt, hint.map(Duration::from_secs), key);
        Duration::try_from(then - now).unwrap()
    }

    #[test]
    fn the_wait_doubles_up_to_an_hour() {
        let table = [
            (0, 2.5, 5.0),
            (1, 2.5, 5.0),
            (2, 5.0, 10.0),
            (3, 10.0, 20.0),
            (10, 1280.0, 2560.0),
            (11, 1800.0, 3600.0),
            (50, 1800.0, 3600.0),
            (u32::MAX, 1800.0, 3600.0),
        ];
        for (attempt, least, most) in table {
            let wait = wait(attempt, None, KEY).as_secs_f64();
            assert!((least..=most).contains(&wait), "attempt {attempt}: {wait} s");
        }
    }

    #[test]
    fn a_hint_is_a_floor_and_bounded() {
        assert!(wait(1, Some(1), KEY) >= Duration::from_secs_f64(2.5), "a hint never shortens");
        assert_eq!(wait(1, Some(90), KEY), Duration::from_secs(90));
        assert_eq!(wait(1, Some(u64::MAX), KEY), LONGEST_HINT);
    }

    #[test]
    fn jitter_is_repeatable_and_spreads() {
        assert_eq!(wait(8, None, KEY), wait(8, None, KEY));
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|n| wait(8, None, &format!("{n:032x}"))).collect();
        assert_eq!(waits.len(), 100, "a hundred keys, a hundred moments");
        let spread = *waits.last().unwrap() - *waits.first().unwrap();
        assert!(spread > Duration::from_secs(250), "of 320 s possible: {spread:?}");
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        assert_eq!(next_attempt(Timestamp::MAX, 1, None, KEY), Timestamp::MAX);
    }
}
