//! Whether a message that may have been posted is there.
//!
//! A nonce makes a repeat harmless for "a few minutes". After a crash or a long outage it has been
//! forgotten, and the channel itself is asked. A webhook cannot: it sees only what it is told the
//! id of, so its message may be posted twice.
//! <https://docs.discord.com/developers/resources/message#get-channel-messages>

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::Bot;
use crate::message::discord::nonce;
use crate::notify::{DeliveryContext, NotifyError, Receipt};

/// Our clock, by which the attempt is noted, and Discord's need not agree.
const MARGIN: SignedDuration = SignedDuration::from_mins(10);
const TWIN_MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// What Discord gives at once.
const PAGE: usize = 100;
/// In a channel with more messages than that since the attempt, ours is not looked for further.
const PAGES: usize = 10;
/// Milliseconds from 1970 to the epoch of snowflakes.
/// <https://docs.discord.com/developers/reference#snowflakes>
const EPOCH: i64 = 1_420_070_400_000;

/// Messages of the bot in the channel, since then or among the newest, that are what sending
/// `message` as this delivery makes. A message may be named twice.
pub(super) async fn find(
    bot: &Bot,
    channel: &str,
    message: &Value,
    delivery: &DeliveryContext,
    since: Timestamp,
) -> Result<Vec<Receipt>, NotifyError> {
    let body = marked(message, delivery);
    let me = bot.call(Method::GET, "/users/@me", None).await?;
    let me = text(me.accepted()?, "id").unwrap_or_default().to_owned();
    let mut found = Vec::new();
    // First the newest, whatever their time: our clock may have been ahead when we posted. But among
    // those that read the same, time alone tells which is which.
    let mut after = delivery.twin.then(|| first_id(since, TWIN_MARGIN));
    for _ in 0..PAGES {
        let from = after.map_or(String::new(), |id| format!("&after={id}"));
        let path = format!("/channels/{channel}/messages?limit={PAGE}{from}");
        let answer = bot.call(Method::GET, &path, None).await?;
        let page = answer.accepted()?.as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = page.iter().filter(|message| is_posted(message, &body, &me));
        found
            .extend(ours.filter_map(id).map(|id| Receipt { remote_id: format!("{channel}/{id}") }));
        let ids = || page.iter().filter_map(id);
        after = match (after, ids().min(), ids().max()) {
            _ if page.len() < PAGE => break,
            // There are others between the attempt and these.
            (None, Some(oldest), _) if oldest > first_id(since, MARGIN) => {
                Some(first_id(since, MARGIN))
            }
            (Some(_), _, Some(newest)) => Some(newest),
            _ => break,
        };
    }
    Ok(found)
}

/// A message as it is posted for a delivery: Discord makes one of those that bear the same nonce.
/// <https://docs.discord.com/developers/resources/message#create-message>
pub(super) fn marked(message: &Value, delivery: &DeliveryContext) -> Value {
    let mut body = message.clone();
    body["nonce"] = json!(nonce(&delivery.dedup_key));
    body["enforce_nonce"] = json!(true);
    body
}

/// The lowest id that a message posted at that time may have, with a margin.
fn first_id(since: Timestamp, margin: SignedDuration) -> u64 {
    let from = since.saturating_sub(margin).unwrap_or(since).as_millisecond();
    u64::try_from(from.saturating_sub(EPOCH)).unwrap_or(0) << 22
}

/// The id of a message, as a number.
fn id(message: &Value) -> Option<u64> {
    message.get("id")?.as_str()?.parse().ok()
}

/// Whether `message` is what posting `body` as the user `me` makes: it has the same nonce, or says
/// the same.
fn is_posted(message: &Value, body: &Value, me: &str) -> bool {
    let author = message.get("author").and_then(|author| author.get("id"));
    if author.and_then(Value::as_str) != Some(me) {
        return false;
    }
    let nonce = |of: &Value| of.get("nonce").filter(|nonce| !nonce.is_null()).cloned();
    if let (Some(theirs), Some(ours)) = (nonce(message), nonce(body)) {
        return theirs == ours;
    }
    let ours = texts(body);
    !ours.is_empty() && texts(message) == ours
}

/// All that a message says, without the blanks that Discord cuts off.
fn texts(message: &Value) -> Vec<&str> {
    let mut texts = Vec::new();
    texts.extend(text(message, "content"));
    for embed in list(message, "embeds") {
        texts.extend(text(embed, "title"));
        texts.extend(text(embed, "description"));
        for field in list(embed, "fields") {
            texts.extend(text(field, "name"));
            texts.extend(text(field, "value"));
        }
        texts.extend(embed.get("footer").and_then(|footer| text(footer, "text")));
    }
    texts
}

fn text<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    let text = of.get(name)?.as_str()?.trim();
    (!text.is_empty()).then_some(text)
}

fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_times() {
        // The example of the documentation: 175928847299117063.
        let at: Timestamp = "2016-04-30T11:18:25.796Z".parse().unwrap();
        assert_eq!(first_id(at + MARGIN, MARGIN), 175_928_847_299_117_063 >> 22 << 22);
        assert_eq!(first_id(Timestamp::MIN, MARGIN), 0);
    }

    #[test]
    fn what_was_posted_is_recognised() {
        let body = json!({ "nonce": "abc", "enforce_nonce": true, "embeds": [{
            "title": "New: Talk ", "description": "text", "color": 3,
            "fields": [{ "name": "Where", "value": "Hall" }], "footer": { "text": "all" },
        }]});
        let there = json!({ "id": "9", "author": { "id": "1" }, "content": "", "embeds": [{
            "type": "rich", "title": "New: Talk", "description": "text", "color": 3,
            "fields": [{ "name": "Where", "value": "Hall", "inline": false }],
            "footer": { "text": "all", "proxy_icon_url": "https://…" },
        }]});
        let with = |change: &dyn Fn(&mut Value)| {
            let mut message = there.clone();
            change(&mut message);
            is_posted(&message, &body, "1")
        };
        assert!(with(&|_| {}));
        assert!(with(&|message| message["nonce"] = Value::Null));
        assert!(with(&|message| {
            message["nonce"] = json!("abc");
            message["embeds"] = json!([]);
        }));
        assert!(!with(&|message| message["nonce"] = json!("abd")));
        assert!(!with(&|message| message["author"]["id"] = json!("2")));
        assert!(!with(&|message| message["embeds"][0]["fields"][0]["value"] = json!("Attic")));
        assert!(!with(&|message| message["embeds"] = json!([])));
        assert!(!is_posted(&json!({ "author": { "id": "1" } }), &json!({}), "1"), "says nothing");
    }
}
