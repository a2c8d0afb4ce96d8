//! A web server with one calendar.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What the server says now, and what it was asked.
#[derive(Debug, Default)]
struct State {
    status: u16,
    etag: Option<String>,
    body: Vec<u8>,
    requests: Vec<String>,
}

/// The server; it stops taking connections when dropped.
#[derive(Debug)]
pub struct FeedStandIn {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
}

impl FeedStandIn {
    /// Serves `body`, without an ETag.
    pub fn start(body: impl Into<Vec<u8>>) -> FeedStandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(Mutex::new(State { status: 200, body: body.into(), ..State::default() }));
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (Arc::clone(&state), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                serve(stream, &shared);
            }
        });
        FeedStandIn { address, state, stopped }
    }

    pub fn url(&self) -> String {
        format!("http://{}/calendar.ics", self.address)
    }

    pub fn serve(&self, body: impl Into<Vec<u8>>) {
        self.state().body = body.into();
    }

    /// Every answer from now on; one of an error has an HTML body.
    pub fn status(&self, status: u16) {
        self.state().status = status;
    }

    /// A request that has it in `If-None-Match` is answered with 304.
    pub fn etag(&self, etag: &str) {
        self.state().etag = Some(etag.to_owned());
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for FeedStandIn {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let mut state = state.lock().unwrap();
    let asked = |etag: &String| head.to_lowercase().contains(&format!("if-none-match: {etag}"));
    let (status, body) = match (state.status, &state.etag) {
        (200, Some(etag)) if asked(etag) => (304, Vec::new()),
        (200, _) => (200, state.body.clone()),
        (status, _) => (status, b"<html><title>Error</title></html>".to_vec()),
    };
    let etag = state.etag.as_ref().map_or(String::new(), |etag| format!("etag: {etag}\r\n"));
    state.requests.push(head);
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} x\r\n{etag}content-length: {length}\r\nconnection: close\r\n");
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&body);
}
