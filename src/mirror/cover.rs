//! The picture of an event, for the head of its scheduled event.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, header};
use tracing::debug;
use url::Url;

use crate::config::Feed;
use crate::fetch::{self, Fetcher};

/// Discord takes more; a picture of this size is too large for a page, too.
const MAX_BYTES: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(20);

/// The picture as Discord wants it; none where it cannot be had, or is of another kind. It is asked
/// for only where the feed may lead, and redirects are not followed.
/// <https://docs.discord.com/developers/reference#image-data>
pub(super) async fn data_uri(fetcher: &Fetcher, feed: &Feed, address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    let read = async {
        let user_agent = feed.user_agent.as_deref().unwrap_or(fetch::USER_AGENT);
        let request = fetcher.ask(feed, Method::GET, &url).ok()?;
        let request = request.header(header::USER_AGENT, user_agent);
        let mut response = request.send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_BYTES {
                return None;
            }
        }
        Some(bytes)
    };
    let bytes = tokio::time::timeout(TIMEOUT, read).await.ok().flatten();
    let found = bytes.as_deref().and_then(|bytes| Some((kind(bytes)?, bytes)));
    if found.is_none() {
        debug!(feed = feed.name, host = url.host_str(), "no picture to be had");
    }
    found.map(|(kind, bytes)| format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
}

/// What a picture is by its first bytes, whatever the server calls it.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    let begins = |with: &[u8]| bytes.starts_with(with);
    match () {
        () if begins(b"\x89PNG\r\n\x1a\n") => Some("png"),
        () if begins(b"\xff\xd8\xff") => Some("jpeg"),
        () if begins(b"GIF87a") || begins(b"GIF89a") => Some("gif"),
        () => None,
    }
}
