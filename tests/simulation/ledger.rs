//! What the outbox said when it was last looked at, and whether what it says now can have come of it.
//!
//! Nobody intervenes in a year, so every state but the first two is for good, and there is one way
//! to each: a claim, which is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use beadle::store::DeliveryState;
use jiff::{SignedDuration, Timestamp};

use super::oracle::Verdict;

/// Nothing asks for a longer wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(2);
/// Younger than that nothing is tidied away: a backup may be older than anyone remembers.
const KEPT: SignedDuration = SignedDuration::from_hours(390 * 24);

/// A row of the outbox, without what would take long to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: String,
    pub endpoint: String,
    pub state: DeliveryState,
    pub attempts: i64,
    pub planned_at: Timestamp,
    pub due_at: Timestamp,
    pub attempt_at: Timestamp,
    pub settled_at: Option<Timestamp>,
    pub remote_id: Option<String>,
}

impl Row {
    fn is_settled(&self) -> bool {
        !matches!(self.state, DeliveryState::Pending | DeliveryState::Leased)
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    rows: HashMap<String, Row>,
    /// By the clock, the first and the last moment at which anything was sent since the last look.
    lived: Option<(Timestamp, Timestamp)>,
    /// When the last look was; none where it was at another database.
    looked: Option<Timestamp>,
    /// Rows that were sent, as they say, by what was another message: its id and the other's.
    pub mistaken: Vec<(String, String)>,
}

impl Ledger {
    /// Something was sent, or was to be sent, in this time.
    pub fn live(&mut self, from: Timestamp, to: Timestamp) {
        let (first, last) = self.lived.unwrap_or((from, to));
        self.lived = Some((first.min(from), last.max(to)));
    }

    /// Which rows must be looked at: those settled since then, and those that are not.
    pub fn settled_since(&self) -> Timestamp {
        match (self.looked, self.lived) {
            (Some(_), Some((first, _))) => first,
            _ => Timestamp::MIN,
        }
    }

    /// Rows as they are now, all or those [settled since](Ledger::settled_since). `receipts` are all
    /// that were ever given.
    pub fn look(
        &mut self,
        rows: Vec<Row>,
        all: bool,
        receipts: &BTreeMap<String, String>,
        ahead: bool,
        now: Timestamp,
    ) -> Verdict {
        let met: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        for (id, before) in &self.rows {
            if met.contains(id.as_str()) || before.is_settled() && !all {
                continue;
            }
            let may_go = match before.settled_at {
                Some(at) => now - at > KEPT,
                // Taken back, since it was yet to fall due.
                None => {
                    let waits = before.state == DeliveryState::Pending && before.attempts == 0;
                    let fell_due = self.looked.is_some_and(|at| before.due_at <= at);
                    waits && before.planned_at < before.due_at && !fell_due
                }
            };
            if !may_go {
                return Err(format!("gone from the outbox: {before:?}"));
            }
        }
        let mut known = BTreeSet::new();
        for row in &rows {
            self.judge(row, ahead, now)?;
            let Some(receipt) = &row.remote_id else { continue };
            let of = receipts.get(receipt).filter(|_| receipt.starts_with(&row.endpoint));
            let Some(of) = of.filter(|_| known.insert(receipt)) else {
                return Err(format!("no receipt of its own: {row:?}"));
            };
            if *of != row.id && !self.rows.get(&row.id).is_some_and(Row::is_settled) {
                self.mistaken.push((row.id.clone(), of.clone()));
            }
        }
        if all {
            self.rows.clear();
        } else {
            self.rows.retain(|_, row| row.is_settled());
        }
        self.rows.extend(rows.into_iter().map(|row| (row.id.clone(), row)));
        (self.lived, self.looked) = (None, Some(now));
        Ok(())
    }

    fn judge(&self, row: &Row, ahead: bool, now: Timestamp) -> Verdict {
        let wrong = |what: &str| {
            let before = self.rows.get(&row.id);
            Err(format!("{what}: {row:?}, was {before:?}; sent in {:?}", self.lived))
        };
        if row.settled_at.is_some() != row.is_settled() {
            return wrong("settled, or not");
        }
        if row.remote_id.is_some() != (row.state == DeliveryState::Sent) {
            return wrong("sent, or not");
        }
        // But of the last jump of the clock beadle may not know yet.
        if !row.is_settled() && row.attempt_at > now + LONGEST_WAIT && !ahead {
            return wrong("waits too long");
        }
        if self.looked.is_none() {
            return Ok(());
        }
        let before = self.rows.get(&row.id);
        if let Some(before) = before.filter(|before| before.is_settled()) {
            return if before == row { Ok(()) } else { wrong("settled once already") };
        }
        let claims = row.attempts - before.map_or(0, |before| before.attempts);
        // What was leased when it was last looked at is so by a process that is no more.
        let must_be_claimed = match row.state {
            DeliveryState::Pending => before.is_some_and(|b| b.state == DeliveryState::Leased),
            DeliveryState::Leased => before.is_none_or(|b| b.state == DeliveryState::Pending),
            _ => true,
        };
        if claims < i64::from(must_be_claimed) {
            return wrong("not claimed");
        }
        let in_time = |at| self.lived.is_some_and(|(from, to)| (from..=to).contains(&at));
        match row.settled_at.is_none_or(in_time) {
            true => Ok(()),
            false => wrong("settled when nothing was sent"),
        }
    }
}
