//! What is shown in Discord and kept up to date: `[[agenda]]` and `[[scheduled_events]]`.

use super::model::{Names, own_name, owned, required_references};
use super::reader::{Reader, Table};
use super::{ScheduledEvents, values};
use crate::plan::Agenda;

/// `[[agenda]]`; `in_discord` are the receivers that Discord reaches, `by_webhook` those of them that
/// have no bot.
pub(super) fn agenda<'a>(
    r: &mut Reader<'a>,
    mut table: Table<'a>,
    names: &mut Names<'a>,
    watch_names: &[&'a str],
    in_discord: &[&'a str],
    by_webhook: &[&'a str],
) -> Agenda {
    let name = own_name(r, &mut table, names);
    let ahead_days = r.parsed(&mut table, "ahead", values::days).unwrap_or(14);
    let watches = required_references(r, &mut table, "watch", "watch", watch_names);
    let pin = r.flag(&mut table, "pin");
    let to = required_references(r, &mut table, "to", "receiver", &names.receivers);
    for receiver in to.iter().filter(|name| !in_discord.contains(name)) {
        r.error(
            table.key_span("to"),
            format!("the receiver {receiver:?} is not in Discord, where an agenda is shown"),
            "name a receiver that has `discord`; for mail there are digests: [[digest]]",
        );
    }
    for receiver in to.iter().filter(|name| pin && by_webhook.contains(name)) {
        r.error(
            table.key_span("pin"),
            format!("the receiver {receiver:?} is a webhook, which cannot pin its messages"),
            "take out `pin` and pin the agenda by hand, or let a bot post it: discord = { channel = \
             \"123456789012345678\" }",
        );
    }
    names.used.extend(to.iter().map(|receiver| ("receiver", *receiver)));
    r.finish(table);
    Agenda { name, ahead_days, watches: owned(watches), pin, to: owned(to) }
}

/// `[[scheduled_events]]`; `bot` is whether there is a token, and the server of `[discord]`.
pub(super) fn scheduled_events<'a>(
    r: &mut Reader<'a>,
    mut table: Table<'a>,
    names: &mut Names<'a>,
    watch_names: &[&'a str],
    bot: (bool, Option<u64>),
) -> ScheduledEvents {
    let name = own_name(r, &mut table, names);
    let guild = r.digits(&mut table, "guild");
    let guild = guild.and_then(|digits| r.understood(digits, values::snowflake));
    let watches = required_references(r, &mut table, "watch", "watch", watch_names);
    let covers = r.flag(&mut table, "covers");
    let repost = r.flag(&mut table, "repost");
    let at_most = r.digits(&mut table, "at_most");
    let at_most = at_most.and_then(|digits| r.understood(digits, values::at_most)).unwrap_or(90);
    let (has_token, default) = bot;
    if !has_token {
        r.error(
            table.span.clone(),
            "scheduled events need the token of a bot",
            "add [discord] with token = { env = \"DISCORD_TOKEN\" }",
        );
    }
    if !table.has("guild") && default.is_none() {
        r.error(
            table.span.clone(),
            "it is not said in which server the events are",
            "add guild = \"123456789012345678\" here or in [discord]",
        );
    }
    r.finish(table);
    let guild = guild.or(default).unwrap_or_default();
    ScheduledEvents { name, guild, watches: owned(watches), covers, repost, at_most }
}
