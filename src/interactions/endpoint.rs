//! Interactions that Discord posts to our HTTP server, for those who run it behind a load balancer.
//!
//! Anybody can post there: only what Discord's key has signed, and lately, is looked at. Discord
//! itself posts bad signatures from time to time and turns the endpoint off if one is accepted.
//!
//! <https://docs.discord.com/developers/interactions/overview#setting-up-an-endpoint>

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;
use jiff::Timestamp;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::request::{self, Act};
use super::{Arrival, Incoming};

/// Header names, in lower case.
const SIGNATURE: &str = "x-signature-ed25519";
const TIMESTAMP: &str = "x-signature-timestamp";

/// How far the time of a signature may be from ours, in seconds: what is older may be a copy.
const MAX_AGE: i64 = 300;

/// Answers interactions that come by HTTP.
#[derive(Clone, Debug)]
pub struct Endpoint {
    key: [u8; 32],
    arrivals: mpsc::Sender<Incoming>,
}

impl Endpoint {
    pub fn new(key: [u8; 32], arrivals: mpsc::Sender<Incoming>) -> Endpoint {
        Endpoint { key, arrivals }
    }

    /// `POST /discord/interactions`. `clock` reads the time.
    pub fn router(self, clock: fn() -> Timestamp) -> Router {
        Router::new().route("/discord/interactions", post(respond)).with_state((self, clock))
    }

    /// Answers a POST with these headers and this body: the status, and the JSON.
    pub async fn post(
        &self,
        signature: Option<&str>,
        timestamp: Option<&str>,
        body: &[u8],
        now: Timestamp,
    ) -> (u16, Value) {
        if !is_genuine(&self.key, signature, timestamp, body, now) {
            return (401, json!({ "error": "invalid request signature" }));
        }
        let parsed = serde_json::from_slice(body).ok().as_ref().and_then(request::parse);
        let Some(interaction) = parsed else {
            return (400, json!({ "error": "no interaction that is known here" }));
        };
        if interaction.act == Act::Ping {
            return (200, super::answer::Answer::Pong.first());
        }
        let (reply, answer) = oneshot::channel();
        let incoming = Incoming { interaction, arrival: Arrival::Http(reply) };
        let busy = (503, json!({ "error": "too busy" }));
        if self.arrivals.try_send(incoming).is_err() {
            return busy;
        }
        answer.await.map_or(busy, |answer| (200, answer))
    }
}

async fn respond(
    State((endpoint, clock)): State<(Endpoint, fn() -> Timestamp)>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (signature, timestamp) = (header(SIGNATURE), header(TIMESTAMP));
    let (status, json) = endpoint.post(signature, timestamp, &body, clock()).await;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], json.to_string())
}

/// Whether Discord signed the body, not long ago.
fn is_genuine(
    key: &[u8; 32],
    signature: Option<&str>,
    timestamp: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> bool {
    let (Some(signature), Some(timestamp)) = (signature.and_then(hex), timestamp) else {
        return false;
    };
    let recent =
        timestamp.parse::<i64>().is_ok_and(|at| now.as_second().abs_diff(at) <= MAX_AGE as u64);
    let signed = [timestamp.as_bytes(), body].concat();
    recent && UnparsedPublicKey::new(&ED25519, key).verify(&signed, &signature).is_ok()
}

/// 64 bytes in hex digits.
fn hex(text: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    if text.len() != 128 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    #[test]
    fn only_what_discord_signed_lately_is_genuine() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let sign = |pair: &Ed25519KeyPair, text: &str| -> String {
            pair.sign(text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let at = now.as_second();
        let (stamp, body) = (at.to_string(), r#"{"type":1}"#);
        let good = sign(&pair, &format!("{stamp}{body}"));
        let genuine = |signature: Option<&str>, stamp: Option<&str>, body: &str| {
            is_genuine(&key, signature, stamp, body.as_bytes(), now)
        };
        assert!(genuine(Some(&good), Some(&stamp), body));
        assert!(genuine(Some(&good.to_uppercase()), Some(&stamp), body));

        let forged = sign(&other, &format!("{stamp}{body}"));
        let without_stamp = sign(&pair, body);
        let (old, early) = ((at - 301).to_string(), (at + 301).to_string());
        let of_old = sign(&pair, &format!("{old}{body}"));
        let of_early = sign(&pair, &format!("{early}{body}"));
        let odd = sign(&pair, &format!("+{stamp}x{body}"));
        for (what, signature, stamp, body) in [
            ("another body", Some(good.as_str()), Some(stamp.as_str()), r#"{"type":2}"#),
            ("another time", Some(&good), Some(&early), body),
            ("another key", Some(&forged), Some(&stamp), body),
            ("time not signed", Some(&without_stamp), Some(&stamp), body),
            ("too old", Some(&of_old), Some(&old), body),
            ("too early", Some(&of_early), Some(&early), body),
            ("no time", Some(&odd), Some(&format!("+{stamp}x")), body),
            ("no signature", None, Some(&stamp), body),
            ("no timestamp", Some(&good), None, body),
            ("half a signature", Some(&good[..64]), Some(&stamp), body),
            ("no hex", Some(&"zz".repeat(64)), Some(&stamp), body),
            ("not ASCII", Some(&"é".repeat(64)), Some(&stamp), body),
        ] {
            assert!(!genuine(signature, stamp, body), "{what}");
        }
    }
}
