//! The dead-man ping: a request to an address that raises the alarm when it does not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::Alive;
use crate::notify::chain;
use crate::pipeline::Pipeline;
use crate::progress::Progress;
use crate::store::StoreError;
use crate::tls::Trust;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Pings while all is well.
#[derive(Debug)]
pub struct DeadMan<'a> {
    config: &'a Alive,
    client: Client,
    /// When it was last looked at.
    last: Option<Instant>,
    /// What keeps the ping back was logged.
    held_back: bool,
    /// The ping itself fails, which was logged.
    unheard: Arc<AtomicBool>,
}

impl<'a> DeadMan<'a> {
    pub fn new(config: &'a Alive, trust: &Trust) -> Result<DeadMan<'a>, reqwest::Error> {
        Ok(DeadMan {
            config,
            client: trust.client().timeout(TIMEOUT).build()?,
            last: None,
            held_back: false,
            unheard: Arc::default(),
        })
    }

    /// To be called after each round; pings once in `every`, if everything that was due has been
    /// attempted and no feed has failed for too long. Does not wait for the answer.
    pub async fn after_round(
        &mut self,
        pipeline: &Pipeline,
        progress: &Progress,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.last.is_some_and(|last| last.elapsed() < self.config.every) {
            return Ok(());
        }
        let reason = self.held_back_by(pipeline, progress, now).await?;
        match &reason {
            Some(reason) if !self.held_back => warn!(reason, "the alive ping is held back"),
            None if self.held_back => info!("the alive ping goes out again"),
            _ => {}
        }
        self.held_back = reason.is_some();
        if reason.is_none() {
            self.last = Some(Instant::now());
            self.ping();
        }
        Ok(())
    }

    async fn held_back_by(
        &self,
        pipeline: &Pipeline,
        progress: &Progress,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        if let Some((one, _)) = progress.stuck().first() {
            return Ok(Some(format!("the {} loop is stuck", one.as_str())));
        }
        if progress.done_for() > self.config.every {
            return Ok(Some("messages that are due are still being sent".to_owned()));
        }
        for name in pipeline.config.feeds.keys() {
            let state = pipeline.store.feed(name).await?;
            let failing = state.failing_since.map_or(SignedDuration::ZERO, |at| now - at);
            if failing > self.config.tolerance {
                return Ok(Some(format!("feed {name} has failed for too long")));
            }
        }
        Ok(None)
    }

    fn ping(&self) {
        // Read anew, like every secret.
        let url = match self.config.url.read() {
            Ok(url) => url,
            Err(error) => return report(&self.unheard, Err(error.to_string())),
        };
        let request = self.client.get(url.expose()).send();
        let unheard = Arc::clone(&self.unheard);
        tokio::spawn(async move {
            // Errors name the address, which is a secret.
            let answer = request.await.map_err(reqwest::Error::without_url);
            report(
                &unheard,
                match answer {
                    Ok(answer) if answer.status().is_success() => Ok(()),
                    Ok(answer) => Err(format!("answered {}", answer.status())),
                    Err(error) => Err(chain(&error)),
                },
            );
        });
    }
}

/// Logs a failure once, and its end.
fn report(unheard: &AtomicBool, result: Result<(), String>) {
    let before = unheard.swap(result.is_err(), Ordering::Relaxed);
    match result {
        Err(error) if !before => warn!(error, "the alive ping failed"),
        Ok(()) if before => info!("the alive ping is heard again"),
        _ => {}
    }
}
