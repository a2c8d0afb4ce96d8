//! A web server with one calendar.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};

use super::listen::Listening;

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
    listening: Listening,
    state: Arc<Mutex<State>>,
}

impl FeedStandIn {
    /// Serves `body`, without an ETag.
    pub fn start(body: impl Into<Vec<u8>>) -> FeedStandIn {
        let state = State { status: 200, body: body.into(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let listening = Listening::start(move |stream| serve(stream, &shared));
        FeedStandIn { listening, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}/calendar.ics", self.listening.address())
    }

    pub fn serve(&self, body: impl Into<Vec<u8>>) {
        self.state().body = body.into();
    }

    /// Every answer from now on; one of an error has an HTML body, a redirect leads to `/moved`, where
    /// the calendar is.
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
    let status = match state.status {
        300..400 if head.starts_with("GET /moved ") => 200,
        status => status,
    };
    let (status, body) = match (status, &state.etag) {
        (200, Some(etag)) if asked(etag) => (304, Vec::new()),
        (200, _) => (200, state.body.clone()),
        (status, _) => (status, b"<html><title>Error</title></html>".to_vec()),
    };
    let etag = state.etag.as_ref().map_or(String::new(), |etag| format!("etag: {etag}\r\n"));
    state.requests.push(head);
    let to = if (300..400).contains(&status) { "location: /moved\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\n{etag}{to}content-length: {length}\r\nconnection: close\r\n"
    );
    // In one write: pieces would wait for each other.
    let _ = stream.write_all(&[format!("{head}\r\n").as_bytes(), &body].concat());
}
