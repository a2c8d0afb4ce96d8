//! What an answer of Discord means for a message: the table of statuses and error codes. Pure.
//!
//! <https://docs.discord.com/developers/topics/opcodes-and-status-codes>

use serde_json::Value;

use super::http::Answer;
use crate::message::discord::Target;
use crate::notify::{NotifyError, Receipt, one_line};

/// The outcome of creating a message.
pub(super) fn of_message(answer: &Answer, by: Target) -> Result<Receipt, NotifyError> {
    match (answer.status, answer.code()) {
        // Posted, whatever the body looks like.
        (200..=299, _) => Ok(receipt(&answer.json)),
        // The nonce was recognised, and the message it belongs to has been deleted since: it did
        // arrive. https://github.com/discord/discord-api-docs/pull/6647
        (_, Some(10008)) => Ok(receipt(&Value::Null)),
        _ => Err(refusal(answer, by)),
    }
}

/// Of a message as Discord shows it.
pub(super) fn receipt(message: &Value) -> Receipt {
    let id = message.get("id").and_then(Value::as_str).unwrap_or_default();
    Receipt { remote_id: id.to_owned() }
}

/// The outcome of reading something.
pub(super) fn of_question(answer: &Answer, by: Target) -> Result<&Value, NotifyError> {
    match answer.status {
        200..=299 => Ok(&answer.json),
        _ => Err(refusal(answer, by)),
    }
}

/// What a refusal asks for: the outer shape of a [`NotifyError`].
enum Class {
    Retry,
    Uncertain,
    Permanent,
    Gone,
}

fn refusal(answer: &Answer, by: Target) -> NotifyError {
    use Class::{Gone, Permanent, Retry, Uncertain};
    let (class, advice) = match (answer.status, answer.code().unwrap_or_default()) {
        (429, _) => (Retry, "Discord's rate limit is used up"),
        (_, 20016 | 20028 | 20029 | 40003 | 40062) => (Retry, "Discord asks to write more slowly"),
        (_, 40004 | 40006) => (Retry, "Discord has switched this off for a while"),
        (500.., _) | (_, 130_000) => (Uncertain, "Discord has a problem"),
        (408, _) => (Uncertain, "Discord did not get the request in time"),

        (_, 10003) => (Gone, "the channel does not exist (any more): correct its id"),
        (_, 10004) => (Gone, "the server does not exist (any more), or the bot was removed"),
        (_, 10015 | 50027) => (
            Gone,
            "the webhook does not exist (any more): make a new one and put its address where the \
             configuration reads it",
        ),
        (_, 50001) => (
            Gone,
            "the bot is not in the server or may not see the channel: invite it, and give it View \
             Channel and Send Messages",
        ),
        (_, 50013) => (
            Gone,
            "the bot may not write in the channel: give it View Channel, Send Messages and Embed \
             Links there",
        ),
        (_, 160_002) => {
            (Gone, "to reply, the bot needs Read Message History: give it that in the channel")
        }
        (_, 50007 | 50278) => (Gone, "Discord does not let this bot write there"),
        (_, 50009) => (
            Gone,
            "the server's verification level keeps the bot from writing: give its role a permission \
             there, or lower the level under Safety Setup",
        ),
        (_, 60003) => (
            Gone,
            "the server asks for two-factor authentication: switch it on for the account that owns \
             the bot",
        ),
        (_, 160_006 | 160_007) => {
            (Gone, "the server has as many active threads as it may have: close some")
        }
        (_, 40058 | 50008 | 50024 | 220_001..=220_003) => (
            Gone,
            "this kind of channel takes no messages of its own: name a text channel or a thread",
        ),
        (_, 50083 | 160_005) => (Gone, "the thread is archived or locked: open it again"),
        (_, 40333) => (Gone, "Discord's front does not accept this program's User-Agent"),

        (_, 50035) => (Permanent, "Discord does not accept the message"),
        (_, 50006) => (Permanent, "the message is empty"),
        (_, 40005 | 50045) | (413, _) => (Permanent, "the message is too large"),
        (_, 40067) => (
            Permanent,
            "the forum wants a tag with every post: name one for each category under `tags`, or \
             take the requirement out of the forum's settings",
        ),
        (_, 30003) => {
            (Permanent, "the channel has as many pinned messages as it may have: unpin some")
        }
        (_, 200_000 | 200_001 | 240_000) => {
            (Permanent, "the server's AutoMod or link filter refused the text")
        }
        (_, 20009 | 20031) => (Permanent, "Discord refuses words of the text"),

        (401, _) if by == Target::Bot => (
            Gone,
            "the bot token is not valid (any more): reset it in the Developer Portal and put the \
             new one where the configuration reads it",
        ),
        (401 | 403, _) if by == Target::Webhook => (Gone, "the webhook's address is refused"),
        (403, _) => (Gone, "Discord refuses the bot"),
        (404 | 410, _) => (Gone, "Discord does not know the target (any more)"),
        // Nothing is followed: the answer would come from somewhere that was not configured.
        (300..=399, _) => (Gone, "Discord's address answers with a redirect: correct api_url"),
        _ => (Permanent, "Discord does not accept the message"),
    };
    let reason = format!("{advice} ({})", quote(answer));
    let after = answer.retry_after;
    match class {
        Retry => NotifyError::Retry { after, reason },
        Uncertain => NotifyError::Uncertain { after, reason },
        Permanent => NotifyError::Permanent { reason },
        Gone => NotifyError::ReceiverGone {
            reason,
            // Whoever goes on asking for one has its address shut out (Discord docs, Rate Limits).
            for_good: by == Target::Webhook && answer.status == 404,
        },
    }
}

/// The answer itself: `HTTP 400, 50035 Invalid Form Body; embeds.0.title: Must be 256 or fewer`.
fn quote(answer: &Answer) -> String {
    let mut text = format!("HTTP {}", answer.status);
    // Zero is no code: Discord has nothing to add.
    if let Some(code) = answer.code().filter(|code| *code != 0) {
        text.push_str(&format!(", {code}"));
    }
    if let Some(message) = answer.json.get("message").and_then(Value::as_str) {
        text.push_str(&format!(" {message}"));
    }
    if let Some(errors) = answer.json.get("errors") {
        let mut found = Vec::new();
        collect(errors, &mut Vec::new(), &mut found);
        for error in found {
            text.push_str(&format!("; {error}"));
        }
    }
    one_line(&text)
}

/// Enough to find the fault by.
const MAX_ERRORS: usize = 3;

/// Flattens the tree of a 50035: names and list indices lead to leaves `_errors: [{message}]`.
fn collect<'a>(errors: &'a Value, path: &mut Vec<&'a str>, found: &mut Vec<String>) {
    let Some(object) = errors.as_object() else { return };
    for (key, value) in object {
        if found.len() >= MAX_ERRORS {
            return;
        }
        if key == "_errors" {
            let message = value.get(0).and_then(|first| first.get("message"));
            let message = message.and_then(Value::as_str).unwrap_or_default();
            found.push(format!("{}: {message}", path.join(".")));
        } else {
            path.push(key);
            collect(value, path, found);
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validation_error_names_the_path() {
        let json = serde_json::json!({
            "code": 50035,
            "message": "Invalid Form Body",
            "errors": { "embeds": {
                "0": { "title": { "_errors": [{ "code": "BASE_TYPE_MAX_LENGTH", "message": "Must be 256 or fewer in length." }] } },
                "3": { "fields": { "1": { "value": { "_errors": [{ "message": "This field is required" }] } } } },
            } },
        });
        let answer = Answer { status: 400, json, retry_after: None };
        insta::assert_snapshot!(
            of_message(&answer, Target::Bot).unwrap_err(),
            @"Discord does not accept the message (HTTP 400, 50035 Invalid Form Body; embeds.0.title: Must be 256 or fewer in length.; embeds.3.fields.1.value: This field is required)"
        );
    }

    #[test]
    fn strange_errors_do_no_harm() {
        for errors in ["null", "[]", "3", r#"{"_errors":3}"#, r#"{"a":{"_errors":[]}}"#] {
            let json = serde_json::from_str(&format!(r#"{{"code":50035,"errors":{errors}}}"#));
            let answer = Answer { status: 400, json: json.unwrap(), retry_after: None };
            assert!(matches!(refusal(&answer, Target::Bot), NotifyError::Permanent { .. }));
        }
    }
}
