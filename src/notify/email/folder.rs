//! Mail written into a folder: an `.eml` file, and the HTML beside it for a browser.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::slug;
use crate::notify::{DeliveryContext, NotifyError, Payload, Receipt};

/// Writes one message. Every attempt has the same name, so a repeat replaces and doubles nothing.
pub(super) async fn write(
    folder: &Path,
    payload: &Payload,
    delivery: &DeliveryContext,
) -> Result<Receipt, NotifyError> {
    let eml = payload.0.clone();
    let name = file_name(&eml, delivery);
    let shown = folder.join(&name).display().to_string();
    let folder = folder.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        if let Some(html) = html(&eml) {
            replace(&folder, &format!("{name}.html"), &html)?;
        }
        replace(&folder, &format!("{name}.eml"), eml.as_bytes())
    });
    match written.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
        Ok(()) => Ok(Receipt { remote_id: format!("{shown}.eml") }),
        Err(error) => Err(NotifyError::Retry {
            after: None,
            reason: format!("cannot write {shown}.eml: {error}"),
        }),
    }
}

pub(super) fn check(folder: &Path) -> Result<String, NotifyError> {
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(format!("folder {shown}")),
        Ok(_) => Err(NotifyError::ReceiverGone {
            reason: format!("{shown} is not a folder"),
            for_good: false,
        }),
        // The first mail makes it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(format!("folder {shown}, not made yet"))
        }
        Err(error) => {
            Err(NotifyError::Retry { after: None, reason: format!("cannot see {shown}: {error}") })
        }
    }
}

/// The file is there whole or not at all.
fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!(".{name}.part"));
    let mut file = File::create(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, folder.join(name))
}

/// `2026-03-02-seminars-this-week-0123abcd`, without extension.
fn file_name(eml: &str, delivery: &DeliveryContext) -> String {
    let date = delivery.planned_at.strftime("%Y-%m-%d");
    let subject = header(eml, "Subject").map(|value| decode_words(&value)).unwrap_or_default();
    let key: String = delivery.dedup_key.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{date}-{}-{key}", slug(&subject))
}

/// The value of a header, unfolded (RFC 5322, 2.2.3).
fn header(eml: &str, name: &str) -> Option<String> {
    let mut lines = eml.split("\r\n").take_while(|line| !line.is_empty());
    let first = lines.by_ref().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })?;
    let mut value = first.trim_start().to_owned();
    for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        value.push_str(line);
    }
    Some(value)
}

/// Turns the encoded words that lettre writes, `=?utf-8?b?…?=`, back into text (RFC 2047). Blanks
/// between two of them do not count.
fn decode_words(value: &str) -> String {
    let mut text = String::new();
    let mut after_encoded = false;
    for word in value.split_inclusive(' ') {
        let decoded = word
            .trim_end()
            .strip_prefix("=?utf-8?b?")
            .and_then(|rest| rest.strip_suffix("?="))
            .and_then(|base64| BASE64.decode(base64).ok());
        match decoded {
            Some(bytes) => {
                if after_encoded {
                    text.truncate(text.trim_end_matches(' ').len());
                }
                text.push_str(&String::from_utf8_lossy(&bytes));
                text.push(' ');
                after_encoded = true;
            }
            None => {
                text.push_str(word);
                after_encoded = after_encoded && word.trim().is_empty();
            }
        }
    }
    text
}

/// The HTML part of a message of our own making, decoded.
fn html(eml: &str) -> Option<Vec<u8>> {
    let kind = header(eml, "Content-Type")?;
    let (_, rest) = kind.split_once("boundary=\"")?;
    let (boundary, _) = rest.split_once('"')?;
    let is_html = |part: &&str| {
        header(part, "Content-Type").is_some_and(|kind| kind.starts_with("text/html"))
    };
    let part = eml.split(&format!("--{boundary}\r\n")).find(is_html)?;
    let (_, body) = part.split_once("\r\n\r\n")?;
    let body = body.split(&format!("--{boundary}--")).next()?;
    quoted_printable::decode(body, quoted_printable::ParseMode::Robust).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_date_subject_and_key() {
        let table = [
            ("Seminars this week", "2026-03-02-seminars-this-week-0123abcd"),
            ("../../etc/passwd", "2026-03-02-etc-passwd-0123abcd"),
            (
                "A long\r\n one, =?utf-8?b?w5xiZXI=?=\r\n =?utf-8?b?cmFzY2h0?= b",
                "2026-03-02-a-long-one-berrascht-b-0123abcd",
            ),
            ("=?utf-8?b?5ryi5a2X?=", "2026-03-02-mail-0123abcd"),
            ("=?utf-8?b?!!?= x", "2026-03-02-utf-8-b-x-0123abcd"),
        ];
        let delivery = DeliveryContext {
            dedup_key: "0123abcd456789".to_owned(),
            planned_at: "2026-03-02T23:59:59Z".parse().unwrap(),
            due_at: jiff::Timestamp::UNIX_EPOCH,
            now: jiff::Timestamp::UNIX_EPOCH,
            address: String::new(),
            thread: None,
            first_part: None,
            posted: None,
            twin: false,
            reply_to: None,
        };
        for (subject, expected) in table {
            let eml = format!("From: a@b\r\nSubject: {subject}\r\nTo: x\r\n\r\nSubject: no\r\n");
            assert_eq!(file_name(&eml, &delivery), expected, "{subject}");
        }
        assert_eq!(file_name("", &delivery), "2026-03-02-mail-0123abcd");
    }
}
