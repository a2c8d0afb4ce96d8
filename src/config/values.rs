//! What the texts of the file mean: times, durations, addresses. Pure.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span, SpanRelativeTo};
use lettre::Address;
use lettre::message::Mailbox;
use percent_encoding::percent_decode_str;
use url::Url;

use super::reader::Parsed;
use super::report::Complaint;
use super::{FeedUrl, OnUnknown, Quiet, SmtpServer, Tls};
use crate::plan::{Announce, Lead, OnChange, Schedule};

/// The words of `announce`.
pub(super) const ANNOUNCE: [(&str, Announce); 7] = [
    ("new", Announce::New),
    ("title", Announce::Title),
    ("time", Announce::Time),
    ("place", Announce::Place),
    ("details", Announce::Details),
    ("category", Announce::Category),
    ("cancelled", Announce::Cancelled),
];

/// The words of `on_change`.
const ON_CHANGE: [(&str, OnChange); 3] =
    [("edit", OnChange::Edit), ("reply", OnChange::Reply), ("both", OnChange::Both)];

/// The words of `on_unknown`.
const ON_UNKNOWN: [(&str, OnUnknown); 2] =
    [("resend", OnUnknown::Resend), ("hold", OnUnknown::Hold)];

const DAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Parsed<T> {
    Err(Complaint::new(message, hint))
}

/// Names in backquotes with commas between.
pub(super) fn list<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// `did you mean …?` with the names that are close to a word, the closest first.
pub(super) fn did_you_mean<T: AsRef<str>>(
    word: &str,
    names: impl IntoIterator<Item = T>,
) -> Option<String> {
    let plain = |text: &str| text.to_lowercase().replace([' ', '-'], "_");
    let word = plain(word);
    let mut close: Vec<(f64, T)> = names
        .into_iter()
        .filter_map(|name| {
            let plain = plain(name.as_ref());
            let city = plain.rsplit('/').next().unwrap_or_default();
            let whole = strsim::normalized_damerau_levenshtein(&word, &plain);
            let city = strsim::normalized_damerau_levenshtein(&word, city);
            (whole >= 0.6 || city >= 0.8).then_some((whole.max(city), name))
        })
        .collect();
    close.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = close.first()?.0;
    let names = close.iter().take_while(|(likeness, _)| *likeness > best - 0.1).take(3);
    let names: Vec<_> = names.map(|(_, name)| format!("`{}`", name.as_ref())).collect();
    Some(format!("did you mean {}?", names.join(" or ")))
}

/// A name of the user's own choice, for a feed, a watch, a digest or a receiver.
pub(super) fn name(text: &str) -> Parsed<String> {
    if text.trim().is_empty() || text.chars().count() > 64 || text.contains(char::is_control) {
        return wrong("this name cannot be used", "a name is one line of 1 to 64 characters");
    }
    Ok(text.to_owned())
}

/// Any text of one line.
pub(super) fn line(text: &str) -> Parsed<String> {
    if text.trim().is_empty() || text.contains(char::is_control) {
        return wrong("this must be one line of text", "write it without line breaks");
    }
    Ok(text.to_owned())
}

/// The name of an environment variable or a credential. What looks like neither may be the secret
/// itself.
pub(super) fn source_name(text: &str) -> Parsed<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
        return wrong(
            "this is not the name of an environment variable or credential",
            "write the name of the place where the secret is kept, not the secret",
        );
    }
    Ok(text.to_owned())
}

/// A path; a relative one starts at the folder of the configuration.
pub(super) fn path(text: &str, base: &Path) -> Parsed<PathBuf> {
    if text.trim().is_empty() || text.contains('\0') {
        return wrong("this is not a path", "a relative path starts at the folder of this file");
    }
    Ok(base.join(text))
}

/// A name of the IANA time zone database, in any case.
pub(super) fn timezone(text: &str) -> Parsed<TimeZone> {
    let database = TimeZoneDatabase::bundled();
    database.get(text).map_err(|_| {
        let hint = did_you_mean(text, database.available().map(|name| name.as_str().to_owned()));
        let hint = hint.unwrap_or_else(|| {
            "zones are named by continent and city, such as `America/New_York`".into()
        });
        Complaint::new(format!("unknown time zone {text:?}"), hint)
    })
}

/// A duration, between two that are given as they would be written.
pub(super) fn duration<'b>(
    least: &'b str,
    most: &'b str,
) -> impl FnOnce(&str) -> Parsed<SignedDuration> + 'b {
    move |text| {
        let length = |text: &str| {
            let span = friendly(text)?;
            span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
        };
        let Some(found) = length(text) else {
            return wrong(
                format!("{text:?} is not a duration"),
                "write a number and its unit, such as `30s`, `15m`, `1h30m` or `1d`",
            );
        };
        if length(least).is_some_and(|least| found < least) {
            return wrong(format!("{text:?} is too short"), format!("at least `{least}`"));
        }
        if length(most).is_some_and(|most| found > most) {
            return wrong(format!("{text:?} is too long"), format!("at most `{most}`"));
        }
        Ok(found)
    }
}

/// The same for what never is negative.
pub(super) fn unsigned<'b>(
    least: &'b str,
    most: &'b str,
) -> impl FnOnce(&str) -> Parsed<Duration> + 'b {
    move |text| duration(least, most)(text).map(SignedDuration::unsigned_abs)
}

fn friendly(text: &str) -> Option<Span> {
    jiff::fmt::friendly::SpanParser::new().parse_span(text.trim()).ok()
}

/// Whole days, at most a year: `7d`, `2w`.
pub(super) fn days(text: &str) -> Parsed<u16> {
    let days = friendly(text).filter(is_whole_days).and_then(|span| {
        let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
        u16::try_from(days).ok().filter(|days| (1..=366).contains(days))
    });
    days.ok_or_else(|| {
        Complaint::new(
            format!("{text:?} is not a number of days"),
            "write `7d` or `2w`, between one day and one year",
        )
    })
}

fn is_whole_days(span: &Span) -> bool {
    let days = Span::new().days(span.get_days());
    span.fieldwise() == days.weeks(span.get_weeks()).fieldwise()
}

/// How long before its start an event is told again: `30m`, `1d`, `1d at 18:00`.
pub(super) fn lead(text: &str) -> Parsed<Lead> {
    let text = text.trim();
    let (before, at) = match text.split_once(" at ") {
        Some((before, at)) => (before, Some(time(at)?)),
        None => (text, None),
    };
    let Some(span) = friendly(before) else {
        return wrong(
            format!("{text:?} is not a time before an event"),
            "write `30m`, `2h`, `1d`, `1w`, or `1d at 18:00`",
        );
    };
    if span.is_negative() {
        return wrong(format!("{text:?} is after the start"), "reminders come before: `1h`");
    }
    if span.get_years() != 0 || span.get_months() != 0 {
        return wrong(format!("{text:?} has no fixed length"), "write it in days or weeks");
    }
    let year = SignedDuration::from_hours(366 * 24);
    if span.to_duration(SpanRelativeTo::days_are_24_hours()).is_ok_and(|length| length > year) {
        return wrong(format!("{text:?} is more than a year"), "at most `366d`");
    }
    if at.is_some() && !is_whole_days(&span) {
        return wrong(
            format!("{text:?} names hours and a time of day"),
            "before `at` stand whole days: `1d at 18:00`, or `0d at 08:00` for the day itself",
        );
    }
    Ok(Lead { text: text.to_owned(), span, at })
}

/// A reminder of an all-day event, which has no time of its own to count from.
pub(super) fn lead_all_day(text: &str) -> Parsed<Lead> {
    let lead = lead(text)?;
    if lead.at.is_none() {
        return wrong(
            format!("{text:?} has no time of day, and an all-day event has none either"),
            "write whole days and a time: `1d at 18:00`, or `0d at 08:00` for the day itself",
        );
    }
    Ok(lead)
}

/// `18:00`, by the 24-hour clock.
fn time(text: &str) -> Parsed<Time> {
    let number = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<i8>().ok()).flatten()
    };
    let time = text.trim().split_once(':').filter(|(_, minute)| minute.len() == 2);
    let time = time.and_then(|(hour, minute)| Time::new(number(hour)?, number(minute)?, 0, 0).ok());
    time.ok_or_else(|| {
        Complaint::new(
            format!("{:?} is not a time of day", text.trim()),
            "write hours and minutes by the 24-hour clock: `18:00`",
        )
    })
}

/// `Mon 08:00`, `Mon,Thu 17:30`, `daily 07:00`, `weekdays 07:00`.
pub(super) fn schedule(text: &str) -> Parsed<Schedule> {
    const FORMS: &str = "write `Mon 08:00`, `Mon,Thu 17:30`, `weekdays 07:00` or `daily 07:00`";
    let text = text.trim();
    if text.split_whitespace().count() >= 5 {
        return wrong(format!("{text:?} is a cron expression, not a schedule"), FORMS);
    }
    let Some((words, at)) = text.rsplit_once(char::is_whitespace) else {
        return wrong(format!("{text:?} is not a schedule"), FORMS);
    };
    let time = time(at).map_err(|complaint| Complaint::new(complaint.message, FORMS))?;
    let mut days = [false; 7];
    match words.trim() {
        words if words.eq_ignore_ascii_case("daily") => days = [true; 7],
        words if words.eq_ignore_ascii_case("weekdays") => days[..5].fill(true),
        words => {
            for word in words.split(',').map(str::trim) {
                let plain = word.to_ascii_lowercase();
                match DAYS.iter().position(|day| plain.len() >= 3 && day.starts_with(&plain)) {
                    Some(day) => days[day] = true,
                    None => return wrong(format!("{word:?} is not a day of the week"), FORMS),
                }
            }
        }
    }
    Ok(Schedule { text: text.to_owned(), days, time })
}

/// A word of `announce`.
pub(super) fn announce(text: &str) -> Parsed<Announce> {
    let words = ANNOUNCE.map(|(word, _)| word);
    match ANNOUNCE.iter().find(|(word, _)| *word == text) {
        Some((_, announce)) => Ok(*announce),
        None => wrong(
            format!("{text:?} is not a word of `announce`"),
            did_you_mean(text, words).unwrap_or_else(|| format!("the words are {}", list(words))),
        ),
    }
}

/// How many pages of a feed to read: 1 to 20, since each is a request at every poll.
pub(super) fn pages(text: &str) -> Parsed<u32> {
    let pages = text.trim().parse().ok().filter(|pages| (1..=20).contains(pages));
    pages.ok_or_else(|| {
        Complaint::new(format!("{text:?} is not a number of pages"), "write a number from 1 to 20")
    })
}

/// How many scheduled events to make: 1 to 100, as many as Discord lets a server have.
pub(super) fn at_most(text: &str) -> Parsed<u8> {
    let number = text.trim().parse().ok().filter(|number| (1..=100).contains(number));
    number.ok_or_else(|| {
        let hint = "write a number from 1 to 100: Discord allows no more in a server";
        Complaint::new(format!("{text:?} is not a number of scheduled events"), hint)
    })
}

/// A word of `on_change`.
pub(super) fn on_change(text: &str) -> Parsed<OnChange> {
    word("on_change", &ON_CHANGE, text)
}

/// A word of `on_unknown`.
pub(super) fn on_unknown(text: &str) -> Parsed<OnUnknown> {
    word("on_unknown", &ON_UNKNOWN, text)
}

fn word<T: Copy>(key: &str, meanings: &[(&str, T)], text: &str) -> Parsed<T> {
    let words = || meanings.iter().map(|(word, _)| *word);
    match meanings.iter().find(|(word, _)| *word == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => wrong(
            format!("{text:?} is not a word of `{key}`"),
            did_you_mean(text, words())
                .unwrap_or_else(|| format!("the words are {}", list(words()))),
        ),
    }
}

/// A number of bytes from 1 KiB to 1 GiB: `64MiB`, `500kB`, `65536`.
pub(super) fn size(text: &str) -> Parsed<u64> {
    let digits = text.trim().bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.trim().split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kb" => Some(1000),
        "kib" => Some(1 << 10),
        "mb" => Some(1_000_000),
        "mib" => Some(1 << 20),
        "gb" => Some(1_000_000_000),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let Some((number, unit)) = number.parse::<u64>().ok().zip(unit) else {
        return wrong(format!("{text:?} is not a size"), "write it such as `64MiB` or `500kB`");
    };
    match number.checked_mul(unit) {
        Some(bytes) if (1 << 10..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => wrong(format!("{text:?} is out of bounds"), "between `1KiB` and `1GiB`"),
    }
}

/// The part before a text's first `:`, if it can be a URL's scheme. One letter is a Windows drive.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.len() > 1 && scheme.starts_with(|c: char| c.is_ascii_alphabetic()))
        .then_some(())
        .filter(|()| scheme.chars().all(fits))
        .map(|()| (scheme, rest))
}

/// Where a calendar is. Messages do not repeat it: a private calendar's address is a secret.
pub(super) fn feed_url(text: &str, base: &Path) -> Parsed<FeedUrl> {
    let text = text.trim();
    let Some((scheme, rest)) = scheme(text) else {
        if text.starts_with("//") || text.to_ascii_lowercase().starts_with("www.") {
            return wrong("this URL is not complete", "put `https://` before it");
        }
        return path(text, base).map(FeedUrl::File);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => http_url(text).map(FeedUrl::Http),
        // Apple's word for "subscribe to this"; hosts of today have TLS.
        "https" | "webcal" | "webcals" => http_url(&format!("https:{rest}")).map(FeedUrl::Http),
        "file" if rest.starts_with("//") => {
            Url::parse(text).ok().and_then(|url| url.to_file_path().ok()).map_or_else(
                || {
                    wrong(
                        "this is not a file of this machine",
                        "write a path, such as `calendar.ics`",
                    )
                },
                |path| Ok(FeedUrl::File(path)),
            )
        }
        "file" => path(rest, base).map(FeedUrl::File),
        other => wrong(
            format!("a feed cannot be read by `{other}:`"),
            "feeds are `https:`, `http:`, `webcal:` or `file:` URLs, or paths",
        ),
    }
}

/// An http(s) URL with a host and without a user.
pub(super) fn http_url(text: &str) -> Parsed<Url> {
    let url = absolute(text, &["http", "https"])?;
    if !url.username().is_empty() || url.password().is_some() {
        return wrong(
            "a user or password inside the URL",
            "for a feed, use `username` and `password = { env = \"…\" }`",
        );
    }
    Ok(url)
}

/// A host, or a host with a port.
pub(super) fn host(text: &str) -> Parsed<String> {
    let text = text.trim();
    match Url::parse(&format!("https://{text}/")) {
        Ok(url) if url.as_str() == format!("https://{}/", text.to_lowercase()) => {
            Ok(text.to_lowercase())
        }
        _ => wrong("this is not a host", "write it such as `events.example.edu`"),
    }
}

/// A URL of Discord's gateway.
pub(super) fn websocket_url(text: &str) -> Parsed<Url> {
    absolute(text, &["ws", "wss"])
}

fn absolute(text: &str, schemes: &[&str]) -> Parsed<Url> {
    let example = schemes.last().copied().unwrap_or_default();
    let hint = format!("write it such as `{example}://example.edu/…`");
    let url = Url::parse(text)
        .map_err(|error| Complaint::new(format!("this is not a URL: {error}"), hint.as_str()))?;
    if !schemes.contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
        return wrong("this is not the kind of URL needed here", hint);
    }
    Ok(url)
}

/// A bare address.
pub(super) fn address(text: &str) -> Parsed<String> {
    if text.trim().parse::<Address>().is_ok() {
        return Ok(text.trim().to_owned());
    }
    match text.parse::<Mailbox>() {
        Ok(mailbox) => wrong(
            format!("{text:?} has a name besides the address"),
            format!("write `{}`", mailbox.email),
        ),
        Err(_) => {
            wrong(format!("{text:?} is not a mail address"), "write it such as `list@example.edu`")
        }
    }
}

/// An address, or `Name <address>`.
pub(super) fn mailbox(text: &str) -> Parsed<String> {
    if text.contains(char::is_control) || text.parse::<Mailbox>().is_err() {
        return wrong(
            format!("{text:?} is not a mail address"),
            "write `list@example.edu` or `Name <list@example.edu>`",
        );
    }
    Ok(text.to_owned())
}

/// A domain name.
pub(super) fn domain(text: &str) -> Parsed<String> {
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if !text.split('.').all(label) {
        return wrong(format!("{text:?} is not a domain"), "write it such as `lists.example.edu`");
    }
    Ok(text.to_owned())
}

/// `smtp://user@host:587`; without the password, which has a place of its own.
pub(super) fn smtp_server(text: &str) -> Parsed<SmtpServer> {
    const FORMS: &str = "write `smtp://user@host` (STARTTLS), `smtps://user@host`, or \
                         `smtp://localhost?tls=none`";
    let url = Url::parse(text).ok().filter(|url| ["smtp", "smtps"].contains(&url.scheme()));
    let Some(url) = url else { return wrong("this is not a mail server", FORMS) };
    if url.password().is_some() {
        return wrong(
            "a password inside the URL",
            "take it out, and write password = { env = \"SMTP_PASSWORD\" } below",
        );
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return wrong("this names no host", FORMS);
    };
    let (tls, port) = match (url.scheme(), url.query()) {
        ("smtps", None) => (Tls::Implicit, 465),
        ("smtp", None) => (Tls::StartTls, 587),
        ("smtp", Some("tls=none")) => (Tls::None, 25),
        _ => return wrong("nothing but `?tls=none` can follow `smtp://host`", FORMS),
    };
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return wrong("a mail server has no path", FORMS);
    }
    let username = match url.username() {
        "" => None,
        user => match percent_decode_str(user).decode_utf8() {
            Ok(user) if !user.contains(char::is_control) => Some(user.into_owned()),
            _ => return wrong("the user is not readable text", FORMS),
        },
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if tls == Tls::None && username.is_some() && !is_loopback(&host) {
        return wrong(
            "a password would cross the network unencrypted",
            "leave out `?tls=none`, or the user",
        );
    }
    let port = url.port().unwrap_or(port);
    Ok(SmtpServer { host, port, tls, username, password: None })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || match host.parse::<std::net::IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => false,
        }
}

/// A header's name (RFC 9110, 5.1).
pub(super) fn header_name(text: &str) -> Parsed<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if text.is_empty() || !text.chars().all(fits) {
        return wrong("this is not the name of a header", "names are such as `X-Api-Key`");
    }
    Ok(text.to_owned())
}

/// Discord's number for a channel.
pub(super) fn channel(text: &str) -> Parsed<u64> {
    match text.trim().parse() {
        Ok(id) if id > 0 => Ok(id),
        _ => wrong(
            "a channel is named by its number",
            "in Discord: Settings, Advanced, Developer Mode; then right-click the channel, Copy ID",
        ),
    }
}

/// The id of a server or an application.
pub(super) fn snowflake(text: &str) -> Parsed<u64> {
    match text.trim().parse() {
        Ok(id) if id > 0 => Ok(id),
        _ => wrong(
            "an id is a number",
            "in Discord: Settings, Advanced, Developer Mode; then right-click the server, Copy ID",
        ),
    }
}

/// Discord's number for a role.
pub(super) fn role(text: &str) -> Parsed<u64> {
    match text.trim().parse() {
        Ok(id) if id > 0 => Ok(id),
        _ => wrong(
            "a role is named by its number",
            "in Discord: Settings, Advanced, Developer Mode; then Server Settings, Roles, \
             right-click the role, Copy Role ID",
        ),
    }
}

/// The public key of an application, 64 hex digits.
pub(super) fn public_key(text: &str) -> Parsed<[u8; 32]> {
    let text = text.trim();
    let mut key = [0; 32];
    let digits = |at: usize| text.get(2 * at..2 * at + 2);
    let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (at, byte) in key.iter_mut().enumerate().filter(|_| hex) {
        *byte = digits(at).and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or_default();
    }
    match hex {
        true => Ok(key),
        false => wrong(
            "a public key is 64 hex digits",
            "copy it from the Developer Portal: your application, General Information, Public Key",
        ),
    }
}

/// A name that a webhook may post under.
/// <https://docs.discord.com/developers/resources/webhook#create-webhook>
pub(super) fn webhook_name(text: &str) -> Parsed<String> {
    let name = line(text)?;
    if name.encode_utf16().count() > 80 {
        return wrong("this name is too long", "at most 80 characters");
    }
    let lower = name.to_lowercase();
    match ["discord", "clyde"].into_iter().find(|word| lower.contains(word)) {
        Some(word) => wrong(
            format!("Discord allows no webhook a name with {word:?} in it"),
            "choose another name",
        ),
        None => Ok(name.trim().to_owned()),
    }
}

/// `22:00-07:00`.
pub(super) fn quiet(text: &str) -> Parsed<Quiet> {
    let Some((from, until)) = text.split_once(['-', '–']) else {
        return wrong(format!("{text:?} is not a part of the day"), "write it as `22:00-07:00`");
    };
    let quiet = Quiet { from: time(from)?, until: time(until)? };
    if quiet.from == quiet.until {
        return wrong(format!("{text:?} is no time at all"), "write it as `22:00-07:00`");
    }
    Ok(quiet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feed_urls() {
        for (text, meant) in [
            ("https://a.edu/x?ical=1", Some("https://a.edu/x?ical=1")),
            ("HTTP://a.edu", Some("http://a.edu/")),
            ("webcal://a.edu/x", Some("https://a.edu/x")),
            ("webcals://a.edu/x", Some("https://a.edu/x")),
            ("http://127.0.0.1:8080/x", Some("http://127.0.0.1:8080/x")),
            ("x.ics", Some("/etc/x.ics")),
            ("../a b/x.ics", Some("/etc/../a b/x.ics")),
            ("/srv/x.ics", Some("/srv/x.ics")),
            ("file:x.ics", Some("/etc/x.ics")),
            ("file:/srv/x.ics", Some("/srv/x.ics")),
            ("file:///srv/a%20b.ics", Some("/srv/a b.ics")),
            ("file://host/x.ics", None),
            ("https:", None),
            ("https://", None),
            ("https://me@a.edu/x", None),
            ("//a.edu/x", None),
            ("www.a.edu/x", None),
            ("mailto:a@b.edu", None),
            ("", None),
        ] {
            let found = feed_url(text, Path::new("/etc")).ok().map(|url| match url {
                FeedUrl::Http(url) => url.to_string(),
                FeedUrl::File(path) => path.display().to_string(),
            });
            assert_eq!(found.as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn smtp_servers() {
        for (text, meant) in [
            ("smtp://a.edu", Some(("a.edu", 587, Tls::StartTls, None))),
            ("smtps://a.edu", Some(("a.edu", 465, Tls::Implicit, None))),
            ("smtp://me@a.edu:2525", Some(("a.edu", 2525, Tls::StartTls, Some("me")))),
            ("smtp://me%40b.edu@a.edu", Some(("a.edu", 587, Tls::StartTls, Some("me@b.edu")))),
            ("smtp://me@b.edu@a.edu", Some(("a.edu", 587, Tls::StartTls, Some("me@b.edu")))),
            ("smtp://a+b@a.edu", Some(("a.edu", 587, Tls::StartTls, Some("a+b")))),
            ("smtp://localhost?tls=none", Some(("localhost", 25, Tls::None, None))),
            ("smtp://me@127.0.0.1?tls=none", Some(("127.0.0.1", 25, Tls::None, Some("me")))),
            ("smtp://[::1]:2525?tls=none", Some(("::1", 2525, Tls::None, None))),
            ("smtp://me@a.edu?tls=none", None),
            ("smtps://a.edu?tls=none", None),
            ("smtp://a.edu?tls=off", None),
            ("smtp://a.edu/path", None),
            ("smtp://me:secret@a.edu", None),
            ("smtp://me%0A@a.edu", None),
            ("smtp://", None),
            ("https://a.edu", None),
            ("a.edu", None),
        ] {
            let found = smtp_server(text).ok();
            let found = found.as_ref().map(|server| {
                (server.host.as_str(), server.port, server.tls, server.username.as_deref())
            });
            assert_eq!(found, meant, "{text}");
        }
    }

    #[test]
    fn leads() {
        for (text, meant) in [
            ("30m", Some(("30m", None))),
            ("1h30m", Some(("1h 30m", None))),
            ("1w", Some(("1w", None))),
            (" 2 days at 8:05 ", Some(("2d", Some("08:05:00")))),
            ("0d at 00:00", Some(("0s", Some("00:00:00")))),
            ("1d at 24:00", None),
            ("1d at 8:5", None),
            ("1d at +8:00", None),
            ("at 18:00", None),
            ("1h at 18:00", None),
            ("1h ago", None),
            ("53w", None),
            ("1y", None),
            ("", None),
        ] {
            let found = lead(text).ok().map(|l| (format!("{:#}", l.span), l.at));
            let found = found.map(|(span, at)| (span, at.map(|at| at.to_string())));
            let found = found.as_ref().map(|(span, at)| (span.as_str(), at.as_deref()));
            assert_eq!(found, meant, "{text}");
        }
    }

    #[test]
    fn schedules() {
        for (text, meant) in [
            ("Mon 08:00", Some("1000000 08:00:00")),
            ("mon, THU  17:30", Some("1001000 17:30:00")),
            ("Wednesday,sun 9:15", Some("0010001 09:15:00")),
            ("daily 07:00", Some("1111111 07:00:00")),
            ("Weekdays 07:00", Some("1111100 07:00:00")),
            ("Mo 08:00", None),
            ("Mon,, 08:00", None),
            ("Mon", None),
            ("08:00", None),
            ("Mon 25:00", None),
            ("0 8 * * 1", None),
            ("", None),
        ] {
            let found = schedule(text).ok().map(|schedule| {
                let days: String =
                    schedule.days.map(|day| if day { '1' } else { '0' }).iter().collect();
                format!("{days} {}", schedule.time)
            });
            assert_eq!(found.as_deref(), meant, "{text}");
        }
        assert!(schedule("0 8 * * 1").unwrap_err().message.contains("cron"));
    }

    #[test]
    fn sizes_and_days() {
        for (text, meant) in [
            ("65536", Some(65536)),
            ("64MiB", Some(64 << 20)),
            ("500 kB", Some(500_000)),
            ("1gib", Some(1 << 30)),
            ("2GiB", None),
            ("1000", None),
            ("99999999999999999999GB", None),
            ("99999999999999999 GB", None),
            ("MiB", None),
        ] {
            assert_eq!(size(text).ok(), meant, "{text}");
        }
        for (text, meant) in [
            ("7d", Some(7)),
            ("1w 1d", Some(8)),
            ("0d", None),
            ("-7d", None),
            ("24h", None),
            ("400d", None),
        ] {
            assert_eq!(days(text).ok(), meant, "{text}");
        }
    }
}
