//! One small HTTP server, for monitoring and for whoever adds a route.
//!
//! Each connection carries one request and ends within a limit, so that a client that dawdles holds
//! one of a few places for a while, and nothing else.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::metrics;
use crate::pipeline::Pipeline;
use crate::progress::Progress;
use crate::store::StoreError;

/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole connection.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of a request, in bytes.
const MAX_BODY: usize = 256 * 1024;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// For what is under way when the program stops.
const GRACE: Duration = Duration::from_secs(3);
/// For the database, while a request waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the routes look at.
#[derive(Clone, Debug)]
pub struct Watched {
    pub pipeline: Arc<Pipeline>,
    pub progress: Arc<Progress>,
    pub clock: fn() -> Timestamp,
}

/// `GET /healthz`, `/readyz` and `/metrics`; more can be merged into it.
pub fn router(watched: Watched) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(watched)
}

/// A port to [`serve`] at.
///
/// # Errors
/// The address is taken, or not one of this machine.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| ListenError(address, error))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {0}, the `listen` of [http]")]
pub struct ListenError(SocketAddr, #[source] io::Error);

/// Answers requests until `stop`, and for a little longer those that are under way.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let router = router.layer(DefaultBodyLimit::max(MAX_BODY));
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(timeout(TIMEOUT, answer(stream, router.clone())));
            }
            // The client has gone away; or there are no more files, and soon there may be.
            Err(error) => {
                warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn answer(stream: TcpStream, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        debug!(%error, "a request was not answered");
    }
}

/// 200 while all loops make progress.
async fn healthz(State(watched): State<Watched>) -> (StatusCode, String) {
    let stuck = watched.progress.stuck();
    let lines = stuck.into_iter().map(|(one, age)| {
        format!("the {} loop has made no progress for {} s\n", one.as_str(), age.as_secs())
    });
    verdict(lines.collect())
}

/// 200 when the database answers and every feed has been tried.
async fn readyz(State(watched): State<Watched>) -> (StatusCode, String) {
    let Watched { pipeline, progress, .. } = watched;
    let mut reasons = String::new();
    match timeout(PATIENCE, pipeline.store.watermark()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => reasons.push_str(&format!("the database does not answer: {error}\n")),
        Err(_) => reasons.push_str("the database does not answer in time\n"),
    }
    if let Some(why) = progress.refusal() {
        reasons.push_str(&format!("the database takes nothing: {why}\n"));
    }
    for feed in pipeline.config.feeds.keys().filter(|feed| !progress.was_tried(feed)) {
        reasons.push_str(&format!("feed {feed} has not been tried yet\n"));
    }
    verdict(reasons)
}

fn verdict(reasons: String) -> (StatusCode, String) {
    match reasons.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, reasons),
    }
}

/// All numbers. Those of the database are left out where it does not answer; the others may tell
/// why.
async fn metrics(State(watched): State<Watched>) -> impl IntoResponse {
    let Watched { pipeline, progress, clock } = watched;
    let Pipeline { store, registry, .. } = &*pipeline;
    // A poll that finds nothing new does not count what is there: that is a look at every event.
    let counted = async {
        for feed in pipeline.config.feeds.keys().filter(|feed| pipeline.metrics.wants_events(feed))
        {
            pipeline.metrics.events(feed, store.event_counts(feed).await?.0);
        }
        Ok::<_, StoreError>(())
    };
    let _ = timeout(PATIENCE, counted).await;
    let mut numbers = pipeline.metrics.numbers();
    let asked = async {
        Ok::<_, StoreError>((
            store.counts().await?,
            store.oldest_due().await?,
            store.parked().await?,
        ))
    };
    if let Ok(Ok((counts, oldest, parked))) = timeout(PATIENCE, asked).await {
        let now = clock();
        numbers.outbox(&counts, now.duration_since(oldest.unwrap_or(now)));
        numbers.parked(&parked, |one| {
            let endpoint = registry.configured(&one.endpoint)?;
            Some((endpoint.receiver.as_str(), endpoint.backend()))
        });
    }
    let folder = &pipeline.config.state;
    let sizes = ["beadle.db", "beadle.db-wal"].map(|name| folder.join(name).metadata());
    numbers.state_size(sizes.iter().flatten().map(std::fs::Metadata::len).sum());
    for (one, age) in progress.ages() {
        numbers.loop_age(one.as_str(), age);
    }
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], numbers.to_string())
}
