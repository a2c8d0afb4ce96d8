//! Which keys there are, and what they must agree on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use toml::de::DeTable;
use url::Url;

use super::discord::Ping;
use super::reader::{Placed, Reader, Table};
use super::report::{Complaint, ConfigError, Report};
use super::{
    Auth, Config, Discord, Email, EmailTarget, Feed, FeedUrl, NeededSecret, Receiver, SmtpServer,
    discord, mirrored, operation, values,
};
use crate::plan::{Announce, Digest, Matcher, Schedule, Watch};

/// Reads a whole file.
pub(super) fn read(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let mut report = Report::new(path, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    // The first only: what follows mostly follows from it.
    if let Some(error) = errors.first() {
        let span = error.span().unwrap_or_default();
        for quotes in ["\"\"\"", "'''"] {
            // In a text of several lines, a line does not say whose value it is.
            let before = text.get(..span.end).unwrap_or(text);
            if let Some(open) = before.find(quotes) {
                report.mask(open..text.len());
            }
        }
        report.error(span.clone(), syntax(error.message(), text.get(span).unwrap_or_default()));
    }
    let report = report.finish()?;

    let base = path.parent().unwrap_or(Path::new(""));
    let mut reader = Reader { report, base, needed: Vec::new() };
    // After an error any value will do in its place: `finish` keeps it from being used.
    let mut config = file(&mut reader, Table::new(document.get_ref(), String::new(), 0..0));
    let Reader { report, needed, .. } = reader;
    let report = report.finish()?;
    config.path = path.to_owned();
    config.secrets = needed
        .into_iter()
        .map(|(key, source, span)| NeededSecret { key, source, place: report.place(span) })
        .collect();
    Ok(config)
}

/// The parser's words in other words, with what to do.
fn syntax(message: &str, found: &str) -> Complaint {
    match message {
        "duplicate key" => Complaint::new(
            format!("`{}` is defined twice", found.trim_matches(['"', '\''])),
            "it stands further up too: rename one, or put both into one",
        ),
        "invalid basic string, expected `\"`" | "invalid literal string, expected `'`" => {
            Complaint::new("a text without its closing quote", "write it as key = \"text\"")
        }
        _ if message.starts_with("string values must be quoted") => {
            Complaint::new("a text without quotes", "write it in quotes: key = \"text\"")
        }
        _ if message.starts_with("key with no value") => {
            Complaint::new("a key without a value", "write key = value")
        }
        _ => Complaint::new(
            format!("this is not TOML: {message}"),
            "every line is key = value, [table] or [[table]]; texts stand in quotes",
        ),
    }
}

/// The names that others refer to, and whether they do.
pub(super) struct Names<'a> {
    pub feeds: Vec<&'a str>,
    pub receivers: Vec<&'a str>,
    /// Of watches, digests and agendas alike: notifications are told apart by them. Empty where the
    /// name is missing, and then no other reference can be called wrong.
    pub sources: Vec<&'a str>,
    pub used: BTreeSet<(&'static str, &'a str)>,
}

/// The keys at the top.
fn file<'a>(r: &mut Reader<'a>, mut file: Table<'a>) -> Config {
    let base = r.base;
    r.require(&file, "timezone", "\"America/New_York\"");
    let timezone = r.parsed(&mut file, "timezone", values::timezone);
    let state = r.parsed(&mut file, "state", |text| values::path(text, base));

    let feed_tables = r.named_tables(&mut file, "feed");
    if feed_tables.is_empty() {
        let hint = "a feed is a line [feed.NAME], and below it a line url = \"https://…\"";
        r.error(file.key_span("feed"), "there is no feed", hint);
    }
    let discord = r.table(&mut file, "discord");
    let has_token = discord.as_ref().is_some_and(|table| table.has("token"));
    let has_http = file.has("http");
    let discord = discord_section(r, discord, has_http);
    let email = r.table(&mut file, "email");
    let sends_mail = email.as_ref().is_some_and(|table| table.has("folder") || table.has("server"));
    let email = email.map(|table| email_section(r, table));
    let http = r.table(&mut file, "http").and_then(|table| operation::http(r, table));
    let alive = r.table(&mut file, "alive").and_then(|table| operation::alive(r, table));
    let ca_file = r.table(&mut file, "tls").and_then(|mut table| {
        r.require(&table, "ca_file", "\"/etc/ssl/our-authority.pem\"");
        let ca_file = r.parsed(&mut table, "ca_file", |text| values::path(text, base));
        r.finish(table);
        ca_file
    });
    let receiver_tables = r.named_tables(&mut file, "receiver");

    for (_, table) in receiver_tables.iter().filter(|(name, _)| *name == "admin") {
        if discord.admin_channel.is_some() {
            r.error(
                table.span.clone(),
                "`admin` is the name of what is sent to `discord.admin_channel`",
                "give the receiver another name",
            );
        }
    }

    let mut names = Names {
        feeds: feed_tables.iter().map(|(name, _)| *name).collect(),
        receivers: receiver_tables.iter().map(|(name, _)| *name).collect(),
        sources: Vec::new(),
        used: BTreeSet::new(),
    };
    let tables = r.listed_tables(&mut file, "watch");
    let mut pings = BTreeMap::new();
    let watches: Vec<_> =
        tables.into_iter().map(|table| watch(r, table, &mut names, &mut pings)).collect();
    let watch_names = names.sources.clone();
    let tables = r.listed_tables(&mut file, "digest");
    let digests =
        tables.into_iter().map(|table| digest(r, table, &mut names, &watch_names)).collect();
    let tables = r.listed_tables(&mut file, "agenda");
    let in_discord = names_with(&receiver_tables, "discord");
    let webhooks = receiver_tables.iter().filter(|(_, table)| table.holds("discord", "webhook"));
    let by_webhook: Vec<&str> = webhooks.map(|(name, _)| *name).collect();
    let agendas = tables
        .into_iter()
        .map(|table| mirrored::agenda(r, table, &mut names, &watch_names, &in_discord, &by_webhook))
        .collect();
    let tables = r.listed_tables(&mut file, "scheduled_events");
    let place = (has_token, discord.guild);
    let scheduled_events = tables
        .into_iter()
        .map(|table| mirrored::scheduled_events(r, table, &mut names, &watch_names, place))
        .collect();
    r.finish(file);

    let unused = |kind, all: &[&'a str], user| -> Vec<String> {
        let unused = all.iter().filter(|name| !names.used.contains(&(kind, **name)));
        unused.map(|name| format!("no {user} uses the {kind} `{name}`")).collect()
    };
    let mut notes = unused("feed", &names.feeds, "watch");
    if let Some(http) = http.filter(|http| !http.listen.ip().is_loopback()) {
        let listen = http.listen;
        notes.push(format!("whoever reaches {listen} can read the metrics: `listen` of [http]"));
    }
    notes.extend(unused("receiver", &names.receivers, "watch, digest or agenda"));
    Config {
        path: PathBuf::new(),
        timezone: timezone.unwrap_or(TimeZone::UTC),
        state: state.unwrap_or_else(|| base.join("state")),
        feeds: feed_tables
            .into_iter()
            .map(|(name, table)| (name.to_owned(), feed(r, name, table)))
            .collect(),
        watches,
        digests,
        pings,
        agendas,
        scheduled_events,
        receivers: receiver_tables
            .into_iter()
            .map(|(name, table)| (name.to_owned(), receiver(r, name, table, has_token, sends_mail)))
            .collect(),
        discord,
        email,
        http,
        alive,
        ca_file,
        notes,
        secrets: Vec::new(),
    }
}

/// `[feed.NAME]`
fn feed<'a>(r: &mut Reader<'a>, name: &str, mut table: Table<'a>) -> Feed {
    let base = r.base;
    r.require(&table, "url", "\"https://events.example.edu/?ical=1\"");
    let url = r.parsed(&mut table, "url", |text| values::feed_url(text, base));
    let url = url.unwrap_or(FeedUrl::File(PathBuf::new()));
    let also = r.parsed_list(&mut table, "also", |text| values::feed_url(text, base));
    let pages = r.digits(&mut table, "pages");
    let pages = pages.and_then(|written| r.understood(written, values::pages));
    // A file costs nobody anything; a server is asked once a minute at most.
    let least = if matches!(url, FeedUrl::File(_)) { "10s" } else { "60s" };
    let every = r.parsed(&mut table, "every", values::duration(least, "24h"));
    let settle = r.parsed(&mut table, "settle", values::duration("0s", "24h"));
    let confirm = r.parsed(&mut table, "confirm", values::duration("0s", "7d"));
    let timeout = r.parsed(&mut table, "timeout", values::unsigned("1s", "10m"));
    let max_bytes = r.parsed(&mut table, "max_size", values::size);
    let timezone = r.parsed(&mut table, "timezone", values::timezone);
    let user_agent = r.parsed(&mut table, "user_agent", values::line);
    let lookups = match table.is_list("lookups") {
        true => r.parsed_list(&mut table, "lookups", values::host),
        false => {
            let unsaid = !table.has("lookups");
            // Asked for in any case, so that it is among the keys that are known.
            let wanted = r.flag(&mut table, "lookups");
            (unsaid || wanted).then(Vec::new)
        }
    };

    let private = r.flag(&mut table, "private");

    let username = r.parsed(&mut table, "username", values::line);
    let password = r.secret(&mut table, "password");
    let bearer = r.secret(&mut table, "bearer");
    for (one, other) in [("username", "password"), ("password", "username")] {
        if table.has(one) && !table.has(other) {
            let message = format!("`{one}` without `{other}`");
            r.error(table.key_span(one), message, format!("add `{other}`, or take this out"));
        }
    }
    if table.has("bearer") && (table.has("username") || table.has("password")) {
        let hint = "keep one way to sign in";
        r.error(table.key_span("bearer"), "`bearer` beside `username` and `password`", hint);
    }
    let auth = match (username, password, bearer) {
        (Some(username), Some(password), _) => Some(Auth::Basic { username, password }),
        (_, _, bearer) => bearer.map(|token| Auth::Bearer { token }),
    };
    let headers = r.secrets(&mut table, "headers");
    let headers = headers
        .into_iter()
        .filter_map(|(name, source)| Some((r.understood(name, values::header_name)?, source)))
        .collect();
    r.finish(table);
    let default = Feed::new(name, url);
    Feed {
        also: also.unwrap_or_default(),
        pages: pages.unwrap_or(default.pages),
        timezone,
        every: every.unwrap_or(default.every),
        settle: settle.unwrap_or(default.settle),
        confirm: confirm.unwrap_or(default.confirm),
        auth,
        headers,
        user_agent,
        lookups,
        private,
        timeout: timeout.unwrap_or(default.timeout),
        max_bytes: max_bytes.unwrap_or(default.max_bytes),
        ..default
    }
}

/// The tables that have a key.
fn names_with<'a>(tables: &[(&'a str, Table<'a>)], key: &str) -> Vec<&'a str> {
    tables.iter().filter(|(_, table)| table.has(key)).map(|(name, _)| *name).collect()
}

/// A name that no watch, digest or agenda has yet.
pub(super) fn own_name<'a>(
    r: &mut Reader<'a>,
    table: &mut Table<'a>,
    names: &mut Names<'a>,
) -> String {
    r.require(table, "name", "\"seminars\"");
    let Some(name) = r.text(table, "name") else {
        names.sources.push("");
        return String::new();
    };
    if !name.value.is_empty() && names.sources.contains(&name.value) {
        let message = format!("another watch, digest or agenda is called {:?}", name.value);
        r.error(name.span.clone(), message, "give each a name of its own");
    }
    names.sources.push(name.value);
    r.understood(name, values::name).unwrap_or_default()
}

/// Names of what is defined elsewhere in the file.
fn references<'a>(
    r: &mut Reader<'a>,
    kind: &str,
    written: Vec<Placed<&'a str>>,
    defined: &[&'a str],
) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in written {
        if defined.contains(&name.value) {
            found.push(name.value);
            continue;
        }
        if defined.contains(&"") {
            continue;
        }
        let hint = values::did_you_mean(name.value, defined).unwrap_or_else(|| {
            if defined.is_empty() {
                return format!("the file defines no {kind}");
            }
            format!("the file defines {}", values::list(defined))
        });
        r.error(name.span, format!("there is no {kind} {:?}", name.value), hint);
    }
    found
}

/// A list of names that must not be empty.
pub(super) fn required_references<'a>(
    r: &mut Reader<'a>,
    table: &mut Table<'a>,
    key: &'static str,
    kind: &'static str,
    defined: &[&'a str],
) -> Vec<&'a str> {
    r.require(table, key, "[\"…\"]");
    let Some(written) = r.texts(table, key) else { return Vec::new() };
    if table.is_empty_list(key) {
        let hint = match defined {
            [] => format!("define a {kind} first"),
            defined => format!("choose from {}", values::list(defined)),
        };
        r.error(table.key_span(key), format!("`{}` names no {kind}", table.join(key)), hint);
    }
    references(r, kind, written, defined)
}

/// `[[watch]]`
fn watch<'a>(
    r: &mut Reader<'a>,
    mut table: Table<'a>,
    names: &mut Names<'a>,
    pings: &mut BTreeMap<String, Ping>,
) -> Watch {
    let name = own_name(r, &mut table, names);
    let feeds = required_references(r, &mut table, "feeds", "feed", &names.feeds);
    names.used.extend(feeds.iter().map(|feed| ("feed", *feed)));
    let any_text = |text: &str| Ok(text.to_owned());
    let matcher = Matcher {
        categories: r.parsed_list(&mut table, "categories", any_text).unwrap_or_default(),
        exclude: r.parsed_list(&mut table, "exclude", any_text).unwrap_or_default(),
    };
    let announce = r.parsed_list(&mut table, "announce", values::announce).map_or_else(
        || {
            let all = values::ANNOUNCE.into_iter().map(|(_, announce)| announce);
            all.filter(|announce| *announce != Announce::Details).collect()
        },
        |words| words.into_iter().collect::<BTreeSet<_>>(),
    );
    let remind = r.parsed_list(&mut table, "remind", values::lead).unwrap_or_default();
    let remind_all_day = r.parsed_list(&mut table, "remind_all_day", values::lead_all_day);
    let remind_all_day = remind_all_day.unwrap_or_else(|| {
        let default = (!remind.is_empty()).then(|| values::lead_all_day("1d at 18:00"));
        default.into_iter().flatten().collect()
    });
    let welcome = r.flag(&mut table, "welcome");
    if let Some(ping) = discord::ping(r, &mut table) {
        pings.insert(name.clone(), ping);
    }
    let on_change = r.parsed(&mut table, "on_change", values::on_change).unwrap_or_default();
    // A watch may be there for a digest alone.
    let silent = announce.is_empty() && remind.is_empty() && remind_all_day.is_empty() && !welcome;
    let to = if silent && !table.has("to") {
        Vec::new()
    } else {
        required_references(r, &mut table, "to", "receiver", &names.receivers)
    };
    names.used.extend(to.iter().map(|receiver| ("receiver", *receiver)));
    r.finish(table);
    Watch {
        name,
        feeds: owned(feeds),
        matcher,
        announce,
        remind,
        remind_all_day,
        welcome,
        on_change,
        to: owned(to),
    }
}

pub(super) fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// `[[digest]]`
fn digest<'a>(
    r: &mut Reader<'a>,
    mut table: Table<'a>,
    names: &mut Names<'a>,
    watch_names: &[&'a str],
) -> Digest {
    let name = own_name(r, &mut table, names);
    r.require(&table, "every", "\"Mon 08:00\"");
    let every = r.parsed(&mut table, "every", values::schedule);
    let ahead_days = r.parsed(&mut table, "ahead", values::days).unwrap_or(7);
    let watches = required_references(r, &mut table, "watch", "watch", watch_names);
    let to = required_references(r, &mut table, "to", "receiver", &names.receivers);
    names.used.extend(to.iter().map(|receiver| ("receiver", *receiver)));
    let welcome = r.flag(&mut table, "welcome");
    let send_empty = r.flag(&mut table, "send_empty");
    r.finish(table);
    let never = Schedule { text: String::new(), days: [false; 7], time: Time::midnight() };
    Digest {
        name,
        every: every.unwrap_or(never),
        ahead_days,
        watches: owned(watches),
        welcome,
        send_empty,
        to: owned(to),
    }
}

/// `[discord]`
fn discord_section<'a>(r: &mut Reader<'a>, table: Option<Table<'a>>, has_http: bool) -> Discord {
    let default = || Url::parse("https://discord.com").expect("a constant URL");
    let Some(mut table) = table else {
        return Discord {
            token: None,
            api_url: default(),
            gateway_url: None,
            admin_channel: None,
            commands: false,
            application_id: None,
            public_key: None,
            guild: None,
        };
    };
    let token = r.secret(&mut table, "token");
    let api_url = r.parsed(&mut table, "api_url", values::http_url);
    let gateway_url = r.parsed(&mut table, "gateway_url", values::websocket_url);
    let admin_channel = r.digits(&mut table, "admin_channel");
    let admin_channel = admin_channel.and_then(|digits| r.understood(digits, values::channel));
    if table.has("admin_channel") && !table.has("token") {
        r.error(
            table.key_span("admin_channel"),
            "a channel needs the token of a bot",
            "add token = { env = \"DISCORD_TOKEN\" }",
        );
    }
    let commands = r.flag(&mut table, "commands");
    let public_key = r.parsed(&mut table, "public_key", values::public_key);
    let mut id = |key| {
        let digits = r.digits(&mut table, key);
        digits.and_then(|digits| r.understood(digits, values::snowflake))
    };
    let (application_id, guild) = (id("application_id"), id("guild"));
    if commands && !table.has("token") {
        let hint = "add token = { env = \"DISCORD_TOKEN\" }";
        r.error(table.key_span("commands"), "slash commands need the token of a bot", hint);
    }
    if table.has("public_key") && !has_http {
        let hint = "add [http] with listen = \"127.0.0.1:9464\"";
        r.error(table.key_span("public_key"), "`public_key` without a server for commands", hint);
    }
    if table.has("public_key") && !commands {
        let hint = "add commands = true, or take this out";
        r.error(table.key_span("public_key"), "`public_key` without `commands`", hint);
    }
    r.finish(table);
    Discord {
        token,
        api_url: api_url.unwrap_or_else(default),
        gateway_url,
        admin_channel,
        commands,
        application_id,
        public_key,
        guild,
    }
}

/// `[email]`
fn email_section<'a>(r: &mut Reader<'a>, mut table: Table<'a>) -> Email {
    let base = r.base;
    r.require(&table, "from", "\"Beadle <beadle@example.edu>\"");
    let from = r.parsed(&mut table, "from", values::mailbox);
    let reply_to = r.parsed(&mut table, "reply_to", values::mailbox);
    let list_domain = r.parsed(&mut table, "list_domain", values::domain);
    let folder = r.parsed(&mut table, "folder", |text| values::path(text, base));
    let server = r.parsed(&mut table, "server", values::smtp_server);
    let password = r.secret(&mut table, "password");
    if table.has("password") && !table.has("server") {
        let hint = "add server = \"smtp://user@smtp.example.edu\"";
        r.error(table.key_span("password"), "`password` without `server`", hint);
    }
    if let Some(server) = &server {
        if table.has("password") && server.username.is_none() {
            let hint = "put the user into the server: smtp://user@host";
            r.error(table.key_span("password"), "`password` without a user", hint);
        }
        if !table.has("password") && server.username.is_some() {
            let hint = "add password = { env = \"SMTP_PASSWORD\" }";
            r.error(table.key_span("server"), "a user without `password`", hint);
        }
    }
    r.finish(table);
    Email {
        from: from.unwrap_or_default(),
        reply_to,
        list_domain,
        folder,
        server: server.map(|server| SmtpServer { password, ..server }),
    }
}

/// `[receiver.NAME]`
fn receiver<'a>(
    r: &mut Reader<'a>,
    name: &str,
    mut table: Table<'a>,
    has_token: bool,
    sends_mail: bool,
) -> Receiver {
    let mut discord = r.table(&mut table, "discord");
    let mut flag = |key| discord.as_mut().is_some_and(|table| r.flag(table, key));
    let (delete_reminders, repost) = (flag("delete_reminders"), flag("repost"));
    let discord = discord.and_then(|table| discord::target(r, table, has_token));
    let email = r.table(&mut table, "email").map(|mut email| {
        r.require(&email, "to", "[\"list@example.edu\"]");
        let to = r.parsed_list(&mut email, "to", values::address).unwrap_or_default();
        if email.is_empty_list("to") {
            let message = format!("`{}` names no address", email.join("to"));
            r.error(email.key_span("to"), message, "write to = [\"list@example.edu\"]");
        }
        r.finish(email);
        EmailTarget { to }
    });
    if table.has("email") && !sends_mail {
        r.error(
            table.key_span("email"),
            "there is no way to send mail",
            "add [email] with from = \"…\" and folder = \"outbox\" or server = \"smtp://…\"",
        );
    }
    let terminal = r.flag(&mut table, "terminal");
    let show_passcodes = r.flag(&mut table, "show_passcodes");
    if !table.has("discord") && !table.has("email") && !terminal {
        r.error(
            table.span.clone(),
            format!("`{}` reaches nobody", table.path),
            "add discord = { channel = \"…\" }, email = { to = [\"…\"] } or terminal = true",
        );
    }
    r.finish(table);
    Receiver {
        name: name.to_owned(),
        discord,
        email,
        terminal,
        show_passcodes,
        delete_reminders,
        repost,
    }
}
