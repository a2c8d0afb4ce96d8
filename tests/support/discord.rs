//! A Discord REST API of the size of this program. Every request is judged by [`openapi`]; a test
//! that makes one which Discord would not accept fails.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::openapi;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// Null where there was none.
    pub json: Value,
}

/// A message that was posted, as a reader of the channel would find it.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    /// `channels/<id>` or `webhooks/<id>`.
    pub target: String,
    pub body: Value,
}

/// What a request is answered with, instead of what it asks for.
#[derive(Clone, Debug)]
pub enum Answer {
    /// As Discord would: the message is posted, the channel described.
    Normal,
    /// The same, with further headers.
    With(Vec<(String, String)>),
    /// This, and nothing is done.
    Status { status: u16, headers: Vec<(String, String)>, body: String },
    /// What is asked for is done, and then the answer is another: a lost reply.
    DoneThen(Box<Answer>),
    /// The connection is closed without an answer.
    Drop,
    /// The headers come, the connection is closed in the middle of the body.
    CutBody,
    /// No answer; the connection stays open until the client closes it.
    Silence,
}

impl Answer {
    /// An API error: `{"code": …, "message": …}`.
    pub fn error(status: u16, code: u64, message: &str) -> Answer {
        Answer::json(status, json!({ "code": code, "message": message }))
    }

    pub fn json(status: u16, body: Value) -> Answer {
        Answer::Status { status, headers: Vec::new(), body: body.to_string() }
    }

    /// What a proxy in front of the API answers.
    pub fn html(status: u16) -> Answer {
        let headers = vec![("content-type".to_owned(), "text/html".to_owned())];
        Answer::Status { status, headers, body: format!("<html><h1>{status}</h1></html>") }
    }

    /// Too many requests, as the API says it.
    pub fn rate_limited(seconds: f64, global: bool) -> Answer {
        let scope = if global { "global" } else { "user" };
        let headers = [
            ("retry-after", (seconds.ceil() as u64).to_string()),
            ("x-ratelimit-scope", scope.to_owned()),
        ];
        let body = json!({
            "message": "You are being rate limited.", "retry_after": seconds, "global": global,
        });
        Answer::Status {
            status: 429,
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            body: body.to_string(),
        }
    }

    /// What is asked for is done, and then the connection is closed.
    pub fn lost() -> Answer {
        Answer::DoneThen(Box::new(Answer::Drop))
    }

    /// What is asked for is done, and the answer tells how much of a bucket is left.
    pub fn bucket(remaining: u32, reset_after: f64) -> Answer {
        Answer::With(vec![
            ("x-ratelimit-bucket".to_owned(), "abcd1234".to_owned()),
            ("x-ratelimit-limit".to_owned(), "5".to_owned()),
            ("x-ratelimit-remaining".to_owned(), remaining.to_string()),
            ("x-ratelimit-reset-after".to_owned(), reset_after.to_string()),
        ])
    }
}

#[derive(Debug)]
struct State {
    script: VecDeque<Answer>,
    requests: Vec<Request>,
    messages: Vec<(Message, Instant)>,
    channels: HashMap<String, Value>,
    nonce_window: Duration,
    /// What was wrong with requests.
    faults: Vec<String>,
}

/// The server; it stops taking connections when dropped.
#[derive(Debug)]
pub struct DiscordStandIn {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
}

impl DiscordStandIn {
    /// Every channel exists and is called `#general` until [`DiscordStandIn::channel`] says more.
    pub fn start() -> DiscordStandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            script: VecDeque::new(),
            requests: Vec::new(),
            messages: Vec::new(),
            channels: HashMap::new(),
            nonce_window: Duration::from_secs(300),
            faults: Vec::new(),
        }));
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (Arc::clone(&state), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        DiscordStandIn { address, state, stopped }
    }

    /// For `[discord] api_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How the next requests are answered, in order; after that all are answered normally.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().script.extend(answers);
    }

    /// Name and type of a channel.
    pub fn channel(&self, id: u64, name: &str, kind: u64) {
        let channel = json!({ "id": id.to_string(), "name": name, "type": kind });
        self.state().channels.insert(id.to_string(), channel);
    }

    /// How long a nonce is remembered; Discord says "a few minutes", here five.
    pub fn set_nonce_window(&self, window: Duration) {
        self.state().nonce_window = window;
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// All messages posted so far.
    pub fn messages(&self) -> Vec<Message> {
        self.state().messages.iter().map(|(message, _)| message.clone()).collect()
    }

    /// Takes what was wrong with the requests so far, for a test that means to be refused.
    pub fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut self.state().faults)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for DiscordStandIn {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if std::thread::panicking() {
            return;
        }
        let faults = self.take_faults();
        assert!(faults.is_empty(), "Discord would not accept:\n{}", faults.join("\n"));
        eprintln!("{} requests to Discord judged so far", openapi::judged());
    }
}

/// One connection, until either side closes it.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Ok(Some(request)) = read_request(&mut reader) {
        let faults = openapi::faults(&request.method, &request.path, &request.json);
        let (done, answer) = {
            let mut state = state.lock().unwrap();
            state.requests.push(request.clone());
            let mut answer = state.script.pop_front().unwrap_or(Answer::Normal);
            if !faults.is_empty() {
                answer = Answer::error(400, 50035, &faults.join("; "));
                let (method, path) = (&request.method, &request.path);
                let told = faults.join("\n  ");
                state.faults.push(format!("{method} {path}\n{:#}\n  {told}", request.json));
            }
            let done = match answer {
                Answer::DoneThen(then) => {
                    answer = *then;
                    state.perform(&request)
                }
                Answer::Normal | Answer::With(_) | Answer::CutBody => state.perform(&request),
                _ => (0, Value::Null),
            };
            (done, answer)
        };
        let (status, body) = done;
        let written = match answer {
            Answer::Normal => respond(&mut stream, status, &[], &body.to_string()),
            Answer::With(headers) => respond(&mut stream, status, &headers, &body.to_string()),
            Answer::Status { status, headers, body } => {
                respond(&mut stream, status, &headers, &body)
            }
            Answer::CutBody => {
                let _ =
                    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 1000\r\n\r\n{{\"id\"");
                return;
            }
            Answer::Drop | Answer::DoneThen(_) => return,
            Answer::Silence => {
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
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

fn respond(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &str,
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name == "content-type") {
        text.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    // In one write: pieces would wait for each other.
    stream.write_all(format!("{text}\r\n{body}").as_bytes())
}

impl State {
    /// What Discord would do, and answer.
    fn perform(&mut self, request: &Request) -> (u16, Value) {
        let path = request.path.split('?').next().unwrap_or_default();
        let Some(path) = path.strip_prefix("/api/v10/") else {
            return (404, json!({ "code": 0, "message": "404: Not Found" }));
        };
        let parts: Vec<&str> = path.split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("POST", ["channels", id, "messages"]) => {
                self.post(&format!("channels/{id}"), &request.json)
            }
            ("POST", ["webhooks", id, _]) => {
                let (status, message) = self.post(&format!("webhooks/{id}"), &request.json);
                if request.path.contains("wait=true") {
                    (status, message)
                } else {
                    (204, Value::Null)
                }
            }
            ("GET", ["channels", id, "messages"]) => {
                let target = format!("channels/{id}");
                let there = self.messages.iter().rev().map(|(message, _)| message);
                let there = there.filter(|message| message.target == target).map(|message| {
                    let mut body = message.body.clone();
                    body["id"] = json!(message.id);
                    body["author"] = json!({ "id": "1" });
                    body
                });
                (200, there.take(100).collect())
            }
            ("GET", ["users", "@me"]) => (200, json!({ "id": "1", "username": "beadle" })),
            ("GET", ["channels", id]) => {
                let general = json!({ "id": id, "name": "general", "type": 0 });
                (200, self.channels.get(*id).cloned().unwrap_or(general))
            }
            ("GET", ["webhooks", id, _]) => {
                (200, json!({ "id": id, "name": "Beadle", "channel_id": "7" }))
            }
            _ => (404, json!({ "code": 0, "message": "404: Not Found" })),
        }
    }

    fn post(&mut self, target: &str, body: &Value) -> (u16, Value) {
        let nonce = body.get("nonce");
        if nonce.is_some() && body.get("enforce_nonce") == Some(&Value::Bool(true)) {
            let window = self.nonce_window;
            let known = self.messages.iter().find(|(message, at)| {
                message.target == target
                    && message.body.get("nonce") == nonce
                    && at.elapsed() < window
            });
            if let Some((message, _)) = known {
                return (200, json!({ "id": message.id, "content": message.body["content"] }));
            }
        }
        let id = (1_400_000_000_000_000_000_u64 + self.messages.len() as u64).to_string();
        let message = Message { id: id.clone(), target: target.to_owned(), body: body.clone() };
        self.messages.push((message, Instant::now()));
        (200, json!({ "id": id, "content": body["content"] }))
    }
}
