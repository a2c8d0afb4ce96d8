//! `discord = { … }` of a receiver, and `ping` of a watch.

use std::collections::BTreeMap;

use jiff::civil::Time;
use url::Url;

use super::reader::{Placed, Reader, Table};
use super::secret::SecretSource;
use super::values;
use crate::plan::{Item, Kind, Notification, Reason};

/// A place in Discord, and how messages are posted there.
#[derive(Clone, Debug)]
pub struct DiscordTarget {
    pub via: Via,
    /// The news of each event go into a thread of its own, or in a forum into a post of its own.
    /// Default: no.
    pub thread_per_event: bool,
    /// In a forum: the tag, by name or id, for each category in lower case. A category that is not
    /// named gets the tag of the same name, if there is one.
    pub tags: BTreeMap<String, String>,
    /// In an announcement channel: publish every message to the channels that follow it. Default: no.
    pub crosspost: bool,
    /// When messages make no sound, by the clocks of the audience.
    pub quiet: Option<Quiet>,
}

#[derive(Clone, Debug)]
pub enum Via {
    /// By the bot whose token is `[discord] token`, into a channel of any kind, or a thread.
    Channel { id: u64 },
    Webhook {
        /// The whole URL is a secret.
        url: SecretSource,
        /// A thread of the webhook's channel.
        thread: Option<u64>,
        /// Instead of the webhook's own name.
        username: Option<String>,
        /// Instead of the webhook's own picture.
        avatar: Option<Url>,
        on_unknown: OnUnknown,
    },
}

/// What becomes of a message of which nobody knows whether it arrived, and that cannot be looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// It is sent again, and may stand there twice.
    #[default]
    Resend,
    /// It is kept for the operator, and may never be seen.
    Hold,
}

/// A time of every day, which may hold midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    pub from: Time,
    /// Not included.
    pub until: Time,
}

impl Quiet {
    pub fn holds(&self, time: Time) -> bool {
        match self.from <= self.until {
            true => self.from <= time && time < self.until,
            false => self.from <= time || time < self.until,
        }
    }
}

/// The roles that a watch calls, by ids, for each kind of news.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ping {
    pub new: Vec<u64>,
    pub changed: Vec<u64>,
    /// Cancelled, postponed, no longer listed.
    pub cancelled: Vec<u64>,
    pub reminder: Vec<u64>,
}

impl Ping {
    /// Whom a notification calls. Lists of what lies ahead call nobody.
    pub fn roles(&self, notification: &Notification) -> Vec<u64> {
        let of_item = |item: &Item| match item.reason {
            Reason::New | Reason::PossibleDuplicate => &self.new,
            Reason::Cancelled | Reason::Postponed | Reason::Withdrawn => &self.cancelled,
            Reason::Updated { .. }
            | Reason::Rescheduled { .. }
            | Reason::Reinstated
            | Reason::Left
            | Reason::Entered => &self.changed,
            Reason::Upcoming => &self.reminder,
        };
        let mut roles: Vec<u64> = match notification.kind {
            Kind::Changes => notification.items.iter().flat_map(of_item).copied().collect(),
            Kind::Reminder { .. } => self.reminder.clone(),
            Kind::Digest { .. } | Kind::Welcome | Kind::Notice { .. } => Vec::new(),
        };
        roles.sort_unstable();
        roles.dedup();
        roles
    }
}

/// Roles of one list.
const MAX_ROLES: usize = 20;

/// `ping = ["role id"]`, or `ping = { new = ["role id"], … }`.
pub(super) fn ping<'a>(r: &mut Reader<'a>, watch: &mut Table<'a>) -> Option<Ping> {
    if !watch.may_have("ping") {
        return None;
    }
    if !watch.is_table("ping") {
        let all = roles(r, watch, "ping");
        return Some(Ping {
            new: all.clone(),
            changed: all.clone(),
            cancelled: all.clone(),
            reminder: all,
        });
    }
    let mut table = r.table(watch, "ping")?;
    let mut of = |key| roles(r, &mut table, key);
    let ping = Ping {
        new: of("new"),
        changed: of("changed"),
        cancelled: of("cancelled"),
        reminder: of("reminder"),
    };
    r.finish(table);
    Some(ping)
}

fn roles<'a>(r: &mut Reader<'a>, table: &mut Table<'a>, key: &'static str) -> Vec<u64> {
    let roles = r.parsed_list(table, key, values::role).unwrap_or_default();
    if roles.len() > MAX_ROLES {
        let message = format!("`{}` names more than {MAX_ROLES} roles", table.join(key));
        r.error(table.key_span(key), message, "make one role for those who want to be called");
    }
    roles
}

/// `discord = { … }` of a receiver.
pub(super) fn target<'a>(
    r: &mut Reader<'a>,
    mut table: Table<'a>,
    has_token: bool,
) -> Option<DiscordTarget> {
    let id = |r: &mut Reader<'a>, table: &mut Table<'a>, key| {
        let digits = r.digits(table, key);
        digits.and_then(|digits| r.understood(digits, values::channel))
    };
    let channel = id(r, &mut table, "channel");
    let webhook = r.secret(&mut table, "webhook");
    let thread = id(r, &mut table, "thread");
    let username = r.parsed(&mut table, "username", values::webhook_name);
    let avatar = r.parsed(&mut table, "avatar", values::http_url);
    let on_unknown = r.parsed(&mut table, "on_unknown", values::on_unknown).unwrap_or_default();
    let thread_per_event = r.flag(&mut table, "thread_per_event");
    let crosspost = r.flag(&mut table, "crosspost");
    let quiet = r.parsed(&mut table, "quiet", values::quiet);
    let tags = tags(r, &mut table);

    match (table.has("channel"), table.has("webhook")) {
        (true, false) if !has_token => r.error(
            table.key_span("channel"),
            "a channel needs the token of a bot",
            "add [discord] with token = { env = \"DISCORD_TOKEN\" }",
        ),
        (true, true) | (false, false) => r.error(
            table.span.clone(),
            match table.has("channel") {
                true => format!("`{}` has both `channel` and `webhook`", table.path),
                false => format!("`{}` needs either `channel` or `webhook`", table.path),
            },
            "a channel needs a bot; a webhook needs only its URL, kept as a secret",
        ),
        (true, false) => {
            let hint = "a bot posts under its own name, and a thread is named as the channel: \
                        channel = \"…\"";
            let finds = "a bot finds what it has posted: nothing is held, and nothing is doubled";
            let keys = ["thread", "username", "avatar"].map(|key| (key, hint));
            for (key, hint) in keys.into_iter().chain([("on_unknown", finds)]) {
                if table.has(key) {
                    let message = format!("`{}` goes with `webhook` only", table.join(key));
                    r.error(table.key_span(key), message, hint);
                }
            }
        }
        (false, true) if crosspost => r.error(
            table.key_span("crosspost"),
            format!("`{}` goes with `channel` only", table.join("crosspost")),
            "Discord lets bots publish messages, but not webhooks",
        ),
        (false, true) => {}
    }
    if table.has("webhook") {
        for (_, tag) in &tags {
            if !tag.value.bytes().all(|byte| byte.is_ascii_digit()) {
                let message = format!("a webhook does not know the tag {:?}", tag.value);
                let hint = "name it by its id, or let a bot post instead";
                r.error(tag.span.clone(), message, hint);
            }
        }
    }
    if thread_per_event && table.has("thread") {
        let hint = "take one of them out: a thread holds no threads";
        let message = "`thread` beside `thread_per_event`";
        r.error(table.key_span("thread_per_event"), message, hint);
    }
    r.finish(table);
    let via = match (channel, webhook) {
        (Some(id), _) => Via::Channel { id },
        (None, Some(url)) => Via::Webhook { url, thread, username, avatar, on_unknown },
        (None, None) => return None,
    };
    let tags =
        tags.into_iter().map(|(name, tag)| (name.to_lowercase(), tag.value.to_owned())).collect();
    Some(DiscordTarget { via, thread_per_event, tags, crosspost, quiet })
}

/// `tags = { Category = "tag" }`.
fn tags<'a>(r: &mut Reader<'a>, table: &mut Table<'a>) -> Vec<(&'a str, Placed<&'a str>)> {
    let Some(tags) = r.table(table, "tags") else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in tags.names() {
        let Some(tag) = value.get_ref().as_str() else {
            let hint = format!("write {:?} = \"the tag's name\"", name.value);
            r.error(value.span(), format!("`{}` must be a text", tags.join(name.value)), hint);
            continue;
        };
        found.push((name.value, Placed { value: tag, span: value.span() }));
    }
    found
}
