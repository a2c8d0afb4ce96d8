//! An HTTP server that answers as a closure says: for tests that need a Discord with a mind of its
//! own. What it is asked is judged like any request to Discord.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::listen::Listening;
use super::openapi;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query, without `/api/v10`.
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// Null where there was none.
    pub json: Value,
}

/// What it is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
    /// How long the answer takes.
    pub after: Duration,
}

impl Reply {
    pub fn ok(body: Value) -> Reply {
        Reply { status: 200, headers: Vec::new(), body, after: Duration::ZERO }
    }

    /// An API error.
    pub fn error(status: u16, code: u64, message: &str) -> Reply {
        Reply { status, ..Reply::ok(json!({ "code": code, "message": message })) }
    }
}

type Mind = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server; it stops taking connections when dropped, and then fails the test if a request was
/// none that Discord would take.
pub struct Wire {
    listening: Listening,
    faults: Arc<Mutex<Vec<String>>>,
}

impl Wire {
    pub fn start(mind: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Wire {
        Wire::judging(mind, true)
    }

    /// Judging takes longer than answering: for a test of speed, which sends what others have sent.
    pub fn unjudged(mind: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Wire {
        Wire::judging(mind, false)
    }

    fn judging(mind: impl Fn(&Request) -> Reply + Send + Sync + 'static, judges: bool) -> Wire {
        let faults = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&faults);
        let listening =
            Listening::start(move |stream| serve(stream, &mind, judges.then_some(&*seen)));
        Wire { listening, faults }
    }

    /// For `[discord] api_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.listening.address())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let faults = self.faults.lock().unwrap();
            assert!(faults.is_empty(), "Discord would not accept:\n{}", faults.join("\n"));
        }
    }
}

/// One connection, until either side closes it.
fn serve(mut stream: TcpStream, mind: &Mind, faults: Option<&Mutex<Vec<String>>>) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Ok(Some(request)) = read(&mut reader) {
        let reply = mind(&request);
        if let Some(faults) = faults {
            let Request { method, path, json, .. } = &request;
            let found = openapi::faults(method, path, json);
            if !found.is_empty() {
                faults.lock().unwrap().push(format!("{method} {path}: {}", found.join("; ")));
            }
        }
        std::thread::sleep(reply.after);
        let body = reply.body.to_string();
        let mut text = format!(
            "HTTP/1.1 {} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            reply.status,
            body.len()
        );
        for (name, value) in &reply.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if stream.write_all(format!("{text}\r\n{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let (method, path) = (method.to_owned(), path.trim_start_matches("/api/v10").to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let json = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Some(Request { method, path, headers, json }))
}
