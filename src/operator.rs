//! What whoever runs beadle is told in `[discord] admin_channel`: receivers that take no messages,
//! messages that were refused, feeds that stay away, slash commands that nobody is offered; and when
//! that is over. Pure.
//!
//! Each is a row of the outbox, committed together with what it is about. Its id is that of the
//! thing itself, so that it is told once, and after a crash not again.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::plan::{Kind, Notification};
use crate::store::shown::Purpose;
use crate::store::{NewDelivery, delivery_id};

/// The channel's endpoint; there is one where it is configured. No receiver has this name.
pub const ENDPOINT: &str = "admin/discord";

/// While Discord refuses the slash commands they are parked under this name. No endpoint has it.
pub const COMMANDS: &str = "slash commands";

/// A feed that has not been readable for this long is worth a message.
pub const FAILING: SignedDuration = SignedDuration::from_hours(6);

/// Later than this nobody wants to know.
const OF_USE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What has happened.
#[derive(Clone, Copy, Debug)]
pub enum Incident<'a> {
    /// No message goes there until someone mends it.
    Parked {
        endpoint: &'a str,
        reason: &'a str,
        for_good: bool,
    },
    /// Something was accepted again.
    Unparked {
        endpoint: &'a str,
        /// The message that was, or since when none had been.
        by: &'a str,
    },
    /// The message will not be sent.
    Dead {
        endpoint: &'a str,
        delivery: &'a str,
        reason: &'a str,
    },
    /// Something that should be shown there is not, or not as it should be.
    NotShown {
        /// An endpoint, or `guild/<id>`.
        target: &'a str,
        purpose: Purpose,
        reason: &'a str,
    },
    FeedFailing {
        feed: &'a str,
        since: Timestamp,
        error: &'a str,
    },
    FeedBack {
        feed: &'a str,
        since: Timestamp,
    },
    /// Discord does not list the slash commands.
    CommandsRefused {
        reason: &'a str,
    },
    CommandsBack {
        since: Timestamp,
    },
}

/// The message about it.
pub fn notice(incident: Incident<'_>, zone: &TimeZone, now: Timestamp) -> NewDelivery {
    let at = |at: Timestamp| {
        at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
    };
    let (key, title, text) = match incident {
        Incident::Parked { endpoint, reason, for_good } => {
            let again = match for_good {
                true => "It is tried again only",
                false => "It is tried again every hour, and",
            };
            let (title, kept) = match endpoint.strip_prefix("guild/") {
                Some(id) => (format!("The server {id} takes no scheduled events"), ""),
                None => (format!("{endpoint} takes no messages"), " Its messages are kept."),
            };
            let reason = capital(reason);
            let text = format!(
                "{reason}.{kept} {again} when beadle is started anew or by `beadle outbox retry \
                 {endpoint}`. See `beadle status`."
            );
            (format!("parked {endpoint} {now}"), title, text)
        }
        Incident::Unparked { endpoint, by } => {
            let (title, text) = match endpoint.strip_prefix("guild/") {
                Some(id) => (
                    format!("The server {id} takes scheduled events again"),
                    "They are being brought up to date.",
                ),
                None => (
                    format!("{endpoint} takes messages again"),
                    "What waited for it is being sent.",
                ),
            };
            (format!("unparked {endpoint} {by}"), title, text.to_owned())
        }
        Incident::Dead { endpoint, delivery, reason } => {
            let day = now.to_zoned_datetime(zone.clone()).date();
            let id = delivery.get(..8).unwrap_or(delivery);
            (
                // What fails for one reason fails often: once a day says it.
                format!("dead {endpoint} {day} {reason}"),
                format!("A message to {endpoint} cannot be delivered"),
                format!(
                    "{}. It is kept, as are others of today for which the same is true: `beadle \
                     outbox list --state dead` shows them, `beadle outbox retry {id}` tries this \
                     one again.",
                    capital(reason)
                ),
            )
        }
        Incident::NotShown { target, purpose, reason } => {
            let day = now.to_zoned_datetime(zone.clone()).date();
            let what = purpose.as_str();
            let title = match target.strip_prefix("guild/") {
                Some(id) => format!("The server {id} refuses a scheduled event"),
                None => format!("{target} refuses an {what}"),
            };
            let then = match purpose {
                Purpose::Announcement => {
                    "It stays as it was posted, and what changes from now on is told by messages."
                }
                _ => {
                    "What is there stays as it is, and so does any other for which the same is \
                     true; it is tried again every hour. See `beadle status`."
                }
            };
            (
                format!("not shown {target} {what} {day} {reason}"),
                title,
                format!("{}. {then}", capital(reason)),
            )
        }
        Incident::FeedFailing { feed, since, error } => (
            format!("failing {feed} {since}"),
            format!("The feed {feed} cannot be read"),
            format!(
                "Not since {}: {error}. Nothing is taken to be cancelled; reminders of the events \
                 that are known go on. Look whether the address still shows the calendar; `beadle \
                 check` tries it.",
                at(since)
            ),
        ),
        Incident::FeedBack { feed, since } => (
            format!("back {feed} {since}"),
            format!("The feed {feed} can be read again"),
            format!("It could not since {}. What changed meanwhile is told now.", at(since)),
        ),
        Incident::CommandsRefused { reason } => (
            format!("commands refused {now}"),
            "Slash commands cannot be registered".to_owned(),
            format!(
                "{}. Nobody is offered them. It is tried again every hour, and when beadle is \
                 started anew.",
                capital(reason)
            ),
        ),
        Incident::CommandsBack { since } => (
            format!("commands back {since}"),
            "Slash commands are registered again".to_owned(),
            format!("They could not be since {}.", at(since)),
        ),
    };
    let notification = &Notification {
        source: "beadle".to_owned(),
        kind: Kind::Notice { title, text },
        zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        items: Vec::new(),
        more: 0,
    };
    NewDelivery {
        id: delivery_id(ENDPOINT, &key),
        endpoint: ENDPOINT.to_owned(),
        notification: notification.into(),
        due_at: now,
        not_after: now.saturating_add(OF_USE).unwrap_or(Timestamp::MAX),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_incident_in_plain_words() {
        let now: Timestamp = "2026-03-05T12:00:00Z".parse().unwrap();
        let since = now - SignedDuration::from_hours(7);
        let (endpoint, delivery) = ("seminars/discord", "00112233445566778899aabbccddeeff");
        let incidents = [
            Incident::Parked { endpoint, reason: "the channel does not exist", for_good: false },
            Incident::Parked { endpoint, reason: "the webhook does not exist", for_good: true },
            Incident::Parked {
                endpoint: "guild/5",
                reason: "the bot was removed",
                for_good: false,
            },
            Incident::Unparked { endpoint: "guild/5", by: "2026-03-05T05:00:00Z" },
            Incident::Unparked { endpoint, by: delivery },
            Incident::Dead { endpoint, delivery, reason: "Discord does not accept the message" },
            Incident::NotShown {
                target: "guild/5",
                purpose: Purpose::ScheduledEvent,
                reason: "Discord does not accept it",
            },
            Incident::NotShown {
                target: endpoint,
                purpose: Purpose::Agenda,
                reason: "no such tag",
            },
            Incident::NotShown {
                target: endpoint,
                purpose: Purpose::Announcement,
                reason: "Discord does not accept it",
            },
            Incident::FeedFailing { feed: "site", since, error: "HTTP 503" },
            Incident::FeedBack { feed: "site", since },
            Incident::CommandsRefused { reason: "the bot is not in the server 999" },
            Incident::CommandsBack { since },
        ];
        let told: Vec<String> = incidents
            .into_iter()
            .map(|incident| {
                let told = notice(incident, &TimeZone::UTC, now);
                let Kind::Notice { title, text } = told.notification.read().unwrap().kind else {
                    panic!()
                };
                format!("{title}\n  {text}\n")
            })
            .collect();
        insta::assert_snapshot!(told.concat(), @r"
        seminars/discord takes no messages
          The channel does not exist. Its messages are kept. It is tried again every hour, and when beadle is started anew or by `beadle outbox retry seminars/discord`. See `beadle status`.
        seminars/discord takes no messages
          The webhook does not exist. Its messages are kept. It is tried again only when beadle is started anew or by `beadle outbox retry seminars/discord`. See `beadle status`.
        The server 5 takes no scheduled events
          The bot was removed. It is tried again every hour, and when beadle is started anew or by `beadle outbox retry guild/5`. See `beadle status`.
        The server 5 takes scheduled events again
          They are being brought up to date.
        seminars/discord takes messages again
          What waited for it is being sent.
        A message to seminars/discord cannot be delivered
          Discord does not accept the message. It is kept, as are others of today for which the same is true: `beadle outbox list --state dead` shows them, `beadle outbox retry 00112233` tries this one again.
        The server 5 refuses a scheduled event
          Discord does not accept it. What is there stays as it is, and so does any other for which the same is true; it is tried again every hour. See `beadle status`.
        seminars/discord refuses an agenda
          No such tag. What is there stays as it is, and so does any other for which the same is true; it is tried again every hour. See `beadle status`.
        seminars/discord refuses an announcement
          Discord does not accept it. It stays as it was posted, and what changes from now on is told by messages.
        The feed site cannot be read
          Not since 2026-03-05 05:00 UTC: HTTP 503. Nothing is taken to be cancelled; reminders of the events that are known go on. Look whether the address still shows the calendar; `beadle check` tries it.
        The feed site can be read again
          It could not since 2026-03-05 05:00 UTC. What changed meanwhile is told now.
        Slash commands cannot be registered
          The bot is not in the server 999. Nobody is offered them. It is tried again every hour, and when beadle is started anew.
        Slash commands are registered again
          They could not be since 2026-03-05 05:00 UTC.
        ");
    }

    #[test]
    fn the_same_is_told_once_and_another_is_told_too() {
        let id = |incident, now: &str| notice(incident, &TimeZone::UTC, now.parse().unwrap()).id;
        let dead = |endpoint, delivery| Incident::Dead { endpoint, delivery, reason: "50035" };
        let (morning, evening) = ("2026-03-05T08:00:00Z", "2026-03-05T20:00:00Z");
        assert_eq!(id(dead("a", "1"), morning), id(dead("a", "2"), evening));
        assert_ne!(id(dead("a", "1"), morning), id(dead("a", "1"), "2026-03-06T08:00:00Z"));
        assert_ne!(id(dead("a", "1"), morning), id(dead("b", "1"), morning));
        let since: Timestamp = "2026-03-04T00:00:00Z".parse().unwrap();
        let failing = |error| Incident::FeedFailing { feed: "site", since, error };
        assert_eq!(id(failing("HTTP 503"), morning), id(failing("HTTP 502"), evening));
    }
}
