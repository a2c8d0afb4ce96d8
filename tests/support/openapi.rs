//! A judge of requests to Discord: its own description of its API (`discord/openapi.json` among the
//! shared files), made stricter, and the rules that the description does not carry.
//!
//! Stricter: objects are closed, so that a misspelt field is a fault and no branch of an `anyOf`
//! lets through what another one forbids; lengths are counted in UTF-16 units, the widest of the
//! counts that Discord may use; formats are checked. Without the description only our own rules
//! are, which is said once.
//!
//! <https://github.com/discord/discord-api-spec>, <https://docs.discord.com/developers>

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde_json::{Map, Value, json};

/// Requests judged so far by this program.
static JUDGED: AtomicUsize = AtomicUsize::new(0);

/// How many requests were judged so far.
pub fn judged() -> usize {
    JUDGED.load(Ordering::Relaxed)
}

/// Reads the description and makes ready for the common requests, which takes longer than some
/// clients wait.
pub fn warm_up() {
    let Some(description) = description() else { return };
    for path in [&["channels", "1", "messages"][..], &["webhooks", "1", "token"][..]] {
        description.judge("POST", path, &[], &Value::Null, &mut Faults::default());
    }
}

/// What Discord would not accept in a request, or would accept and not do. `path` may begin with
/// `/api/v10` and have a query; `body` is null where there is none.
pub fn faults(method: &str, path: &str, body: &Value) -> Vec<String> {
    JUDGED.fetch_add(1, Ordering::Relaxed);
    let path = path.strip_prefix("/api/v10").unwrap_or(path);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let query: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    let mut faults = Faults::default();
    if let Some(description) = description() {
        description.judge(method, &segments, &query, body, &mut faults);
    }
    rules(method, &segments, &query, body, &mut faults);
    faults.0
}

#[derive(Debug, Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, text: impl Into<String>) {
        self.0.push(text.into());
    }

    fn unless(&mut self, holds: bool, text: &str) {
        if !holds {
            self.add(text);
        }
    }
}

// ---- the description ---------------------------------------------------------------------------

struct Description {
    operations: Vec<Operation>,
    schemas: Value,
}

struct Operation {
    method: String,
    /// `{name}` stands for anything.
    path: Vec<String>,
    queries: BTreeSet<String>,
    /// The schema of its JSON body.
    body: Option<Value>,
    validator: OnceLock<Validator>,
}

fn description() -> Option<&'static Description> {
    static DESCRIPTION: OnceLock<Option<Description>> = OnceLock::new();
    let read = || {
        let shared = std::env::var_os("BEADLE_SHARED")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
        let path = shared.join("discord/openapi.json");
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: no {}, so requests are judged by our own rules", path.display());
            return None;
        };
        let mut text: Value = serde_json::from_str(&text).unwrap();
        close(&mut text["paths"]);
        close(&mut text["components"]["schemas"]);
        Some(Description {
            operations: operations(&text),
            schemas: text["components"]["schemas"].take(),
        })
    };
    DESCRIPTION.get_or_init(read).as_ref()
}

/// Forbids what is not named, wherever something is.
fn close(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("properties").is_some_and(Value::is_object) {
                object.entry("additionalProperties").or_insert(json!(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

fn operations(text: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in text["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !matches!(method.as_str(), "get" | "post" | "put" | "patch" | "delete") {
                continue;
            }
            let parameters = [&item["parameters"], &operation["parameters"]];
            let parameters = parameters.into_iter().filter_map(Value::as_array).flatten();
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.trim_start_matches('/').split('/').map(str::to_owned).collect(),
                queries: parameters
                    .filter(|parameter| parameter["in"] == "query")
                    .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
                    .collect(),
                body: operation.pointer("/requestBody/content/application~1json/schema").cloned(),
                validator: OnceLock::new(),
            });
        }
    }
    operations
}

impl Description {
    fn judge(
        &self,
        method: &str,
        segments: &[&str],
        query: &[(&str, &str)],
        body: &Value,
        faults: &mut Faults,
    ) {
        let operations = self.operations.iter().filter(|operation| operation.method == method);
        let matching = operations.filter(|operation| operation.is_at(segments));
        // `…/messages/@original` rather than `…/messages/{message_id}`.
        let Some(operation) = matching.min_by_key(|operation| operation.variables()) else {
            return faults.add(format!("there is no {method} /{}", segments.join("/")));
        };
        for (name, _) in query {
            // Known to the documentation only:
            // https://docs.discord.com/developers/resources/webhook#edit-webhook-message
            let documented = *name == "with_components" && segments[0] == "webhooks";
            if !operation.queries.contains(*name) && !documented {
                faults.add(format!("the query has no {name}"));
            }
        }
        match &operation.body {
            None => faults.unless(body.is_null(), "this request takes no body"),
            Some(schema) => {
                let validator = operation.validator.get_or_init(|| self.validator(schema));
                validator.iter_errors(body).for_each(|error| tell(&error, faults));
            }
        }
    }

    /// With those of the schemas that are needed.
    fn validator(&self, schema: &Value) -> Validator {
        let mut needed = BTreeMap::new();
        let mut open = vec![schema];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(object) => {
                    if let Some(Value::String(reference)) = object.get("$ref") {
                        let name = reference.rsplit('/').next().unwrap();
                        let found = &self.schemas[name];
                        if needed.insert(name, found).is_none() {
                            open.push(found);
                        }
                    }
                    open.extend(object.values());
                }
                Value::Array(list) => open.extend(list),
                _ => {}
            }
        }
        let schema = json!({ "allOf": [schema], "components": { "schemas": needed } });
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .with_format("snowflake", |text: &str| text.parse::<u64>().is_ok())
            .with_keyword("maxLength", utf16_length)
            .build(&schema)
            .unwrap()
    }
}

impl Operation {
    fn is_at(&self, segments: &[&str]) -> bool {
        self.path.len() == segments.len()
            && self.path.iter().zip(segments).all(|(name, segment)| {
                match name.strip_suffix("_id}") {
                    Some(_) => segment.parse::<u64>().is_ok(),
                    None => name.starts_with('{') && !segment.is_empty() || name == segment,
                }
            })
    }

    fn variables(&self) -> usize {
        self.path.iter().filter(|name| name.starts_with('{')).count()
    }
}

/// Of alternatives, what is wrong with the one that was meant: by its `type`, else the nearest.
fn tell(error: &ValidationError<'_>, faults: &mut Faults) {
    if let ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } =
        error.kind()
    {
        let is_other = |branch: &Vec<ValidationError<'_>>| {
            branch.iter().any(|one| {
                let is_whole = one.instance_path() == error.instance_path();
                one.instance_path().as_str().ends_with("type")
                    || is_whole && matches!(one.kind(), ValidationErrorKind::Type { .. })
            })
        };
        if let Some(branch) = context.iter().min_by_key(|one| (is_other(one), one.len())) {
            return branch.iter().for_each(|error| tell(error, faults));
        }
    }
    let said: String = error.to_string().chars().take(300).collect();
    faults.add(format!("{}: {said}", error.instance_path()));
}

struct Utf16Length(usize);

impl<'i> Keyword<'i> for Utf16Length {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if Keyword::is_valid(self, instance) {
            return Ok(());
        }
        Err(ValidationError::custom(format!("is longer than {} UTF-16 units", self.0)))
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        instance.as_str().is_none_or(|text| units(text) <= self.0)
    }
}

fn utf16_length<'a>(
    _: &'a Map<String, Value>,
    limit: &'a Value,
    _: jsonschema::paths::Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    Ok(Box::new(Utf16Length(limit.as_u64().unwrap() as usize)))
}

// ---- what it does not say ----------------------------------------------------------------------

const SUPPRESS_EMBEDS: u64 = 1 << 2;
const EPHEMERAL: u64 = 1 << 6;
const SUPPRESS_NOTIFICATIONS: u64 = 1 << 12;
const IS_COMPONENTS_V2: u64 = 1 << 15;

/// How the tokens of interactions begin: `interaction:` in Base64.
pub const INTERACTION_TOKEN: &str = "aW50ZXJhY3Rpb246";

/// How a message comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    New,
    /// By a webhook that belongs to no application.
    Webhook,
    /// To an interaction.
    Reply,
    Edit,
}

fn rules(
    method: &str,
    segments: &[&str],
    query: &[(&str, &str)],
    body: &Value,
    faults: &mut Faults,
) {
    let has = |name: &str| query.iter().any(|(known, _)| *known == name);
    let is_reply = |token: &str| token.starts_with(INTERACTION_TOKEN);
    match (method, segments) {
        ("POST", ["channels", _, "messages"]) => message(body, Way::New, faults),
        ("PATCH", ["channels", _, "messages", _]) => message(body, Way::Edit, faults),
        ("POST", ["channels", _, "messages", _, "threads"]) => name(body, faults),
        ("POST", ["channels", _, "threads"]) => {
            name(body, faults);
            if let Some(first) = body.get("message") {
                message(first, Way::New, faults);
            }
        }
        ("POST", ["webhooks", _, token]) => {
            let way = if is_reply(token) { Way::Reply } else { Way::Webhook };
            message(body, way, faults);
            let named = text(body, "thread_name").is_some();
            faults.unless(!(has("thread_id") && named), "220002: thread_id and thread_name");
            faults.unless(
                way == Way::Reply || items(body, "components").is_empty() || has("with_components"),
                "components are ignored without with_components",
            );
            // https://docs.discord.com/developers/resources/webhook#create-webhook
            let user = text(body, "username").unwrap_or("x").to_lowercase();
            let taken =
                user.contains("discord") || user.contains("clyde") || user.trim().is_empty();
            faults.unless(!taken, "a webhook may not have this username");
        }
        ("PATCH", ["webhooks", _, token, "messages", _]) => {
            message(body, Way::Edit, faults);
            faults.unless(
                is_reply(token) || items(body, "components").is_empty() || has("with_components"),
                "components are ignored without with_components",
            );
        }
        ("POST", ["interactions", _, _, "callback"]) => match body["type"].as_u64() {
            Some(4) => message(&body["data"], Way::Reply, faults),
            Some(5) => {
                let flags = body["data"]["flags"].as_u64().unwrap_or_default();
                faults.unless(flags & !EPHEMERAL == 0, "only EPHEMERAL may be said in advance");
            }
            Some(7) => message(&body["data"], Way::Edit, faults),
            _ => {}
        },
        ("POST", ["guilds", _, "scheduled-events"]) => {
            scheduled_event(body, faults);
            faults.unless(!body["name"].is_null(), "an event without a name");
            if body["entity_type"] == 3 {
                faults.unless(
                    text(body, "scheduled_end_time").is_some(),
                    "an EXTERNAL event needs an end",
                );
                let place = text(&body["entity_metadata"], "location");
                faults.unless(place.is_some(), "an EXTERNAL event needs a location");
                faults.unless(body["channel_id"].is_null(), "an EXTERNAL event has no channel");
            }
        }
        ("PATCH", ["guilds", _, "scheduled-events", _]) => scheduled_event(body, faults),
        ("PUT", ["applications", .., "commands"]) => {
            let commands = body.as_array().map_or(&[][..], Vec::as_slice);
            commands.iter().for_each(|one| command(one, faults));
            for kind in 1..=3 {
                let of_kind =
                    || commands.iter().filter(move |one| one["type"].as_u64().unwrap_or(1) == kind);
                unique(of_kind(), "name", faults);
                let limit = if kind == 1 { 100 } else { 15 };
                faults.unless(of_kind().count() <= limit, "too many commands");
            }
        }
        ("POST", ["applications", .., "commands"]) => command(body, faults),
        _ => {}
    }
}

/// <https://docs.discord.com/developers/resources/message#create-message>
fn message(body: &Value, way: Way, faults: &mut Faults) {
    let content = text(body, "content").unwrap_or_default();
    faults.unless(units(content) <= 2000, "content is longer than 2000");
    let embeds = items(body, "embeds");
    let components = items(body, "components");
    let rest = ["sticker_ids", "attachments"].map(|name| items(body, name).is_empty());
    let empty = content.is_empty() && embeds.is_empty() && components.is_empty();
    if way != Way::Edit && empty && rest == [true, true] && body["poll"].is_null() {
        faults.add("50006: an empty message");
    }

    let mut sum = 0;
    for embed in embeds {
        sum += embed_units(embed);
        self::embed(embed, body, faults);
    }
    faults.unless(sum <= 6000, "the embeds have more than 6000 characters");

    let flags = body["flags"].as_u64().unwrap_or_default();
    let known = match way {
        Way::Edit => SUPPRESS_EMBEDS | IS_COMPONENTS_V2,
        Way::Reply => SUPPRESS_EMBEDS | EPHEMERAL | SUPPRESS_NOTIFICATIONS | IS_COMPONENTS_V2,
        _ => SUPPRESS_EMBEDS | SUPPRESS_NOTIFICATIONS | IS_COMPONENTS_V2,
    };
    faults.unless(flags & !known == 0, "flags that may not be set here");
    if flags & IS_COMPONENTS_V2 == 0 {
        legacy_components(components, faults);
    } else {
        let others = ["content", "embeds", "sticker_ids", "poll"].map(|name| {
            matches!(&body[name], Value::Null) || body[name] == json!([]) || body[name] == ""
        });
        faults.unless(others == [true; 4], "components v2 go with nothing else");
        let said: usize = everything(components)
            .iter()
            .filter(|one| one["type"] == 10)
            .map(|one| units(one["content"].as_str().unwrap_or_default()))
            .sum();
        faults.unless(said <= 4000, "the texts have more than 4000 characters");
    }
    controls(components, way, faults);

    faults.unless(
        body["enforce_nonce"] != true || !body["nonce"].is_null(),
        "enforce_nonce without a nonce",
    );
    mentions(body, content, faults);
}

fn embed(embed: &Value, body: &Value, faults: &mut Faults) {
    let shown = ["title", "description", "image", "thumbnail", "author", "footer", "fields"];
    faults.unless(
        shown.iter().any(|name| !embed[name].is_null() && embed[name] != json!([])),
        "an embed that shows nothing",
    );
    for field in items(embed, "fields") {
        for part in ["name", "value"] {
            faults.unless(text(field, part).is_some(), &format!("an empty {part} of a field"));
        }
    }
    for (part, name) in [("footer", "text"), ("author", "name")] {
        let said = embed[part].is_null() || text(&embed[part], name).is_some();
        faults.unless(said, &format!("a {part} without {name}"));
    }
    let urls = ["/url", "/image/url", "/thumbnail/url", "/author/url", "/footer/icon_url"];
    for url in urls.iter().filter_map(|at| embed.pointer(at).and_then(Value::as_str)) {
        let ok = match url.strip_prefix("attachment://") {
            Some(name) => items(body, "attachments").iter().any(|file| file["filename"] == name),
            None => is_web(url),
        };
        faults.unless(ok, &format!("an address that Discord does not take: {url}"));
    }
}

/// What counts towards the limit of a message's embeds together.
fn embed_units(embed: &Value) -> usize {
    let fields = items(embed, "fields").iter().flat_map(|field| [&field["name"], &field["value"]]);
    [&embed["title"], &embed["description"], &embed["footer"]["text"], &embed["author"]["name"]]
        .into_iter()
        .chain(fields)
        .map(|value| units(value.as_str().unwrap_or_default().trim()))
        .sum()
}

fn legacy_components(rows: &[Value], faults: &mut Faults) {
    faults.unless(rows.len() <= 5, "more than 5 action rows");
    for row in rows {
        faults.unless(row["type"] == 1, "something else than an action row");
        let inside = items(row, "components");
        let buttons = inside.iter().filter(|one| one["type"] == 2).count();
        faults.unless(
            buttons == inside.len() || buttons == 0 && inside.len() == 1,
            "a row of neither buttons nor one select",
        );
    }
}

/// Buttons and selects, wherever they stand.
fn controls(components: &[Value], way: Way, faults: &mut Faults) {
    let all = everything(components);
    faults.unless(all.len() <= 40, "more than 40 components");
    let named = || all.iter().copied().filter(|one| text(one, "custom_id").is_some());
    unique(named(), "custom_id", faults);
    faults.unless(
        way != Way::Webhook || named().count() == 0,
        "a webhook of no application has no interactive components",
    );
    for &one in &all {
        match one["type"].as_u64() {
            Some(2) => {
                let (link, url) = (one["style"] == 5, text(one, "url"));
                faults.unless(
                    url.is_some() == link && link != one["custom_id"].is_string(),
                    "a link button has a url, any other a custom_id",
                );
                faults.unless(url.is_none_or(is_web), "a button's url is no web address");
                let shows = text(one, "label").is_some() || !one["emoji"].is_null();
                faults.unless(shows, "a button that shows nothing");
            }
            Some(3) => {
                let options = items(one, "options");
                faults.unless(!options.is_empty(), "a select without options");
                unique(options, "value", faults);
            }
            _ => {}
        }
    }
}

/// Components with those inside them.
fn everything(components: &[Value]) -> Vec<&Value> {
    let mut all = Vec::new();
    let mut open: Vec<&Value> = components.iter().collect();
    while let Some(one) = open.pop() {
        all.push(one);
        open.extend(items(one, "components"));
        open.extend(one.get("accessory"));
    }
    all
}

/// <https://docs.discord.com/developers/resources/message#allowed-mentions-object>
fn mentions(body: &Value, content: &str, faults: &mut Faults) {
    let allowed = &body["allowed_mentions"];
    // Our own rule: Discord would let such a text mention whom it likes.
    faults.unless(content.is_empty() || !allowed.is_null(), "content without allowed_mentions");
    let parse = items(allowed, "parse");
    for kind in ["roles", "users"] {
        let both = parse.contains(&json!(kind)) && !items(allowed, kind).is_empty();
        faults.unless(!both, &format!("allowed_mentions parses {kind} and names some"));
    }
    // Our own rule as well.
    let everyone = parse.contains(&json!("everyone"));
    faults.unless(!everyone, "allowed_mentions lets a text mention everyone");
}

/// <https://docs.discord.com/developers/resources/guild-scheduled-event>
fn scheduled_event(body: &Value, faults: &mut Faults) {
    let named = body["name"].is_null() || text(body, "name").is_some();
    faults.unless(named, "an event with an empty name");
    let time = |name: &str| text(body, name).map(|text| (text, text.parse::<jiff::Timestamp>()));
    let times = ["scheduled_start_time", "scheduled_end_time"].map(time);
    for (text, time) in times.iter().flatten() {
        // https://github.com/discord/discord-api-docs/issues/5340
        faults.unless(time.is_ok() && text.ends_with('Z'), "a time that is not in UTC");
    }
    if let [Some((_, Ok(start))), Some((_, Ok(end)))] = times {
        faults.unless(start < end, "an event ends after it begins");
    }
    // Ours: a rule cannot say UNTIL, COUNT or EXDATE, so dates are sent one by one.
    faults.unless(body["recurrence_rule"].is_null(), "a recurrence_rule");
    let status = body["status"].as_u64();
    faults.unless(status.is_none_or(|status| (2..=4).contains(&status)), "back to SCHEDULED");
    if let Some(image) = text(body, "image") {
        let kinds = ["png", "jpeg", "gif"].map(|kind| format!("data:image/{kind};base64,"));
        faults.unless(kinds.iter().any(|kind| image.starts_with(kind)), "an image in no data URI");
    }
}

/// <https://docs.discord.com/developers/interactions/application-commands>
fn command(command: &Value, faults: &mut Faults) {
    let name = command["name"].as_str().unwrap_or_default();
    let described = text(command, "description").is_some();
    if command["type"].as_u64().unwrap_or(1) == 1 {
        command_name(name, faults);
        faults.unless(described, &format!("/{name} without a description"));
    } else {
        faults.unless(!described, &format!("{name}: only typed commands have a description"));
    }
    options(items(command, "options"), faults);
    faults.unless(command_units(command) <= 8000, &format!("/{name} is too large"));
}

fn options(options: &[Value], faults: &mut Faults) {
    unique(options, "name", faults);
    let required: Vec<bool> = options.iter().map(|option| option["required"] == true).collect();
    faults.unless(required.is_sorted_by(|a, b| a >= b), "a required option after an optional one");
    for option in options {
        command_name(option["name"].as_str().unwrap_or_default(), faults);
        faults.unless(text(option, "description").is_some(), "an option without a description");
        let choices = items(option, "choices");
        unique(choices, "name", faults);
        faults.unless(
            choices.is_empty() || option["autocomplete"] != true,
            "choices and autocomplete at once",
        );
        self::options(items(option, "options"), faults);
    }
}

fn command_name(name: &str, faults: &mut Faults) {
    let fits = (1..=32).contains(&name.chars().count())
        && name.chars().all(|c| matches!(c, '-' | '_' | '\'') || c.is_alphanumeric())
        && name.to_lowercase() == name;
    faults.unless(fits, &format!("{name:?} cannot be the name of a command or an option"));
}

/// What counts towards the size of a command.
fn command_units(value: &Value) -> usize {
    let own =
        ["name", "description", "value"].map(|name| units(value[name].as_str().unwrap_or("")));
    let parts = items(value, "options").iter().chain(items(value, "choices"));
    own.iter().sum::<usize>() + parts.map(command_units).sum::<usize>()
}

fn name(body: &Value, faults: &mut Faults) {
    faults.unless(text(body, "name").is_some(), "a thread without a name");
}

fn unique<'a>(list: impl IntoIterator<Item = &'a Value>, key: &str, faults: &mut Faults) {
    let mut known = BTreeSet::new();
    for value in list {
        faults.unless(known.insert(value[key].to_string()), &format!("{key} twice"));
    }
}

/// A text that is there and not blank.
fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}
