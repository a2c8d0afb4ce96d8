//! A Discord REST API of the size of this program. Every request is judged by [`openapi`]; a test
//! that makes one which Discord would not accept fails.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::guild::Board;
use super::listen::Listening;
use super::openapi;

/// The type of a channel that holds nothing but threads.
pub const FORUM: u64 = 15;
/// The type of a channel that others can follow.
pub const ANNOUNCEMENT: u64 = 5;

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
    /// The channel or thread that it is in; empty for the first one of a forum post.
    pub channel: String,
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
pub(super) struct State {
    script: VecDeque<Answer>,
    requests: Vec<Request>,
    /// And since when the nonce is remembered, as long as it is.
    messages: Vec<(Message, Option<Instant>)>,
    channels: HashMap<String, Value>,
    nonce_window: Duration,
    /// Channels of people who take no messages from the bot.
    closed: HashSet<String>,
    /// What GET /gateway says.
    gateway: String,
    /// Slash commands, by the path of their list.
    commands: HashMap<String, Value>,
    /// The bot is in no server.
    outside: bool,
    /// What was wrong with requests.
    faults: Vec<String>,
    /// By their ids.
    threads: HashMap<String, Thread>,
    /// `<channel>/<message>` of what was published.
    published: Vec<String>,
    webhook_channel: String,
    pub(super) board: Board,
}

/// A thread, begun with a message or as a post in a forum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    pub id: String,
    /// The forum that it is in; empty elsewhere.
    pub parent: String,
    pub name: String,
    /// Ids of tags.
    pub tags: Vec<String>,
    pub archived: bool,
    pub locked: bool,
    pub deleted: bool,
}

/// The server; it stops taking connections when dropped.
#[derive(Debug)]
pub struct DiscordStandIn {
    listening: Listening,
    state: Arc<Mutex<State>>,
}

impl DiscordStandIn {
    /// Every channel exists and is called `#general` until [`DiscordStandIn::channel`] says more.
    pub fn start() -> DiscordStandIn {
        openapi::warm_up();
        let state = Arc::new(Mutex::new(State {
            script: VecDeque::new(),
            requests: Vec::new(),
            messages: Vec::new(),
            channels: HashMap::new(),
            nonce_window: Duration::from_secs(300),
            closed: HashSet::new(),
            gateway: String::new(),
            commands: HashMap::new(),
            outside: false,
            faults: Vec::new(),
            threads: HashMap::new(),
            published: Vec::new(),
            webhook_channel: "7".to_owned(),
            board: Board::default(),
        }));
        let shared = Arc::clone(&state);
        let listening = Listening::start(move |stream| serve(stream, &shared));
        DiscordStandIn { listening, state }
    }

    /// For `[discord] api_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.listening.address())
    }

    /// How the next requests are answered, in order; after that all are answered normally.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().script.extend(answers);
    }

    /// Name and type of a channel. A forum has the tags Talks (91) and Colloquium (92).
    pub fn channel(&self, id: u64, name: &str, kind: u64) {
        let mut channel = json!({ "id": id.to_string(), "name": name, "type": kind });
        if kind == FORUM {
            channel["available_tags"] =
                json!([{ "id": "91", "name": "Talks" }, { "id": "92", "name": "Colloquium" }]);
        }
        self.state().channels.insert(id.to_string(), channel);
    }

    /// The channel is one of the server 5.
    pub fn in_guild(&self, id: u64) {
        self.state().channels.get_mut(&id.to_string()).unwrap()["guild_id"] = json!("5");
    }

    /// The webhook 8 is of this channel; of 7, unless it is said.
    pub fn webhook_of(&self, channel: u64) {
        let id = channel.to_string();
        self.state().webhook_channel = id;
    }

    /// The threads begun so far, in order.
    pub fn threads(&self) -> Vec<Thread> {
        let mut threads: Vec<Thread> = self.state().threads.values().cloned().collect();
        threads.sort_by(|a, b| a.id.cmp(&b.id));
        threads
    }

    /// A thread that somebody began.
    pub fn add_thread(&self, thread: Thread) {
        self.state().threads.insert(thread.id.clone(), thread);
    }

    /// Somebody does something to a thread.
    pub fn change_thread(&self, id: &str, change: impl FnOnce(&mut Thread)) {
        change(self.state().threads.get_mut(id).unwrap());
    }

    /// What was published, as `<channel>/<message>`.
    pub fn published(&self) -> Vec<String> {
        self.state().published.clone()
    }

    /// Whether a person takes direct messages from the bot.
    pub fn direct_messages(&self, person: u64, open: bool) {
        let channel = format!("5000{person}");
        match open {
            true => self.state().closed.remove(&channel),
            false => self.state().closed.insert(channel),
        };
    }

    /// What GET /gateway says.
    pub fn set_gateway(&self, url: &str) {
        self.state().gateway = url.to_owned();
    }

    /// Someone throws the bot out, and with it go the commands of the server.
    pub fn throw_out(&self) {
        let mut state = self.state();
        state.outside = true;
        state.commands.retain(|path, _| !path.contains("/guilds/"));
    }

    /// Someone invites it again.
    pub fn invite(&self) {
        self.state().outside = false;
    }

    /// How long a nonce is remembered; Discord says "a few minutes", here five.
    pub fn set_nonce_window(&self, window: Duration) {
        self.state().nonce_window = window;
    }

    /// No nonce so far is remembered any longer.
    pub fn forget_nonces(&self) {
        self.state().messages.iter_mut().for_each(|(_, nonce)| *nonce = None);
    }

    /// Whether the messages of channels can be read; if not, there seem to be none, as for a bot that
    /// may not read the history.
    pub fn show_history(&self, shown: bool) {
        self.state().board.hides_history = !shown;
    }

    /// Waits until what those who are gone had said is heard, and done.
    pub fn hear_out(&self) {
        self.listening.hear_out();
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

    /// For `guild`.
    pub(super) fn inside(&self) -> MutexGuard<'_, State> {
        self.state()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for DiscordStandIn {
    fn drop(&mut self) {
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
    /// A message that somebody else wrote.
    pub(super) fn say(&mut self, channel: u64, body: Value) {
        self.post(&format!("channels/{channel}"), &channel.to_string(), &body);
    }

    /// What Discord would do, and answer.
    fn perform(&mut self, request: &Request) -> (u16, Value) {
        let messages = self.messages.iter_mut().map(|(message, _)| message);
        if let Some(done) = self.board.perform(messages, request) {
            return done;
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let Some(path) = path.strip_prefix("/api/v10/") else {
            return (404, json!({ "code": 0, "message": "404: Not Found" }));
        };
        let parts: Vec<&str> = path.split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("POST", ["channels", id, "messages"]) if self.closed.contains(*id) => {
                (403, json!({ "code": 50007, "message": "Cannot send messages to this user" }))
            }
            ("POST", ["channels", id, "messages"]) => match self.refusal(id) {
                Some(refusal) => refusal,
                None => self.post(&format!("channels/{id}"), id, &request.json),
            },
            ("POST", ["channels", id, "messages", message, "crosspost"]) => {
                let name = format!("{id}/{message}");
                if self.published.contains(&name) {
                    return (400, error(40033, "This message has already been crossposted."));
                }
                self.published.push(name);
                (200, json!({ "id": message }))
            }
            ("POST", ["channels", _, "messages", message, "threads"]) => {
                if self.threads.contains_key(*message) {
                    return (400, error(160_004, "A thread has already been created"));
                }
                self.begin(message, &request.json)
            }
            ("POST", ["channels", id, "threads"]) => {
                let (_, message) =
                    self.post(&format!("channels/{id}"), "", &request.json["message"]);
                let forum = (*id).to_owned();
                let id = message["id"].as_str().unwrap().to_owned();
                let begun = self.begin(&id, &request.json);
                self.threads.get_mut(&id).unwrap().parent = forum;
                begun
            }
            ("GET", ["guilds", _, "threads", "active"]) => {
                let open = self.threads.values().filter(|one| !one.archived && !one.deleted);
                let described = open.map(|one| {
                    json!({ "id": one.id, "parent_id": one.parent, "name": one.name,
                        "owner_id": "1" })
                });
                (200, json!({ "threads": described.collect::<Vec<_>>() }))
            }
            ("PATCH", ["channels", id]) if self.threads.contains_key(*id) => {
                let thread = self.threads.get_mut(*id).unwrap();
                thread.archived = request.json["archived"].as_bool().unwrap_or(thread.archived);
                if let Some(name) = request.json["name"].as_str() {
                    thread.name = name.to_owned();
                }
                (200, json!({ "id": id }))
            }
            ("POST", ["webhooks", id, _]) => {
                let query = request.path.split_once("thread_id=");
                let thread = query.map(|(_, rest)| rest.split('&').next().unwrap().to_owned());
                let (status, message) = self.execute(id, thread, &request.json);
                if status != 200 || request.path.contains("wait=true") {
                    (status, message)
                } else {
                    (204, Value::Null)
                }
            }
            // A person's channel has a number of its own that ends like the person's.
            ("POST", ["users", "@me", "channels"]) => {
                let person = request.json["recipient_id"].as_str().unwrap_or_default();
                (200, json!({ "id": format!("5000{person}"), "type": 1 }))
            }
            ("POST", ["interactions", _, _, "callback"]) => (204, Value::Null),
            ("PATCH", ["webhooks", _, _, "messages", "@original"]) => {
                (200, json!({ "id": "1400000000000000000" }))
            }
            (_, ["applications", _, "guilds", _, "commands"]) if self.outside => {
                (403, error(50001, "Missing Access"))
            }
            ("PUT", ["applications", .., "commands"]) => {
                let listed: Value =
                    request.json.as_array().unwrap().iter().map(listed_command).collect();
                self.commands.insert(path.to_owned(), listed.clone());
                (200, listed)
            }
            ("GET", ["applications", .., "commands"]) => {
                (200, self.commands.get(path).cloned().unwrap_or(json!([])))
            }
            ("GET", ["applications", "@me"]) => (200, json!({ "id": "22", "name": "beadle" })),
            ("GET", ["gateway"]) => (200, json!({ "url": self.gateway })),
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

    /// Why no message can be written into a channel or thread.
    fn refusal(&self, id: &str) -> Option<(u16, Value)> {
        let kind = self.channels.get(id).and_then(|channel| channel["type"].as_u64());
        match (self.threads.get(id), kind) {
            (Some(Thread { deleted: true, .. }), _) => Some((404, error(10003, "Unknown Channel"))),
            (Some(Thread { locked: true, .. }), _) => {
                Some((400, error(160_005, "This thread is locked")))
            }
            (Some(Thread { archived: true, .. }), _) => {
                Some((400, error(50083, "Tried to perform an operation on an archived thread")))
            }
            (None, Some(FORUM)) => {
                Some((400, error(50008, "Cannot send messages in a non-text channel")))
            }
            _ => None,
        }
    }

    /// A thread with the id of its first message.
    fn begin(&mut self, id: &str, body: &Value) -> (u16, Value) {
        let texts = |key: &str| -> Vec<String> {
            let list = body[key].as_array().map_or(&[][..], Vec::as_slice);
            list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let thread = Thread {
            id: id.to_owned(),
            name: body["name"].as_str().unwrap().to_owned(),
            tags: texts("applied_tags"),
            ..Thread::default()
        };
        self.threads.insert(id.to_owned(), thread);
        (201, json!({ "id": id, "type": 11, "message": { "id": id, "channel_id": id } }))
    }

    fn execute(&mut self, id: &str, thread: Option<String>, body: &Value) -> (u16, Value) {
        let target = format!("webhooks/{id}");
        let channel = self.webhook_channel.clone();
        let is_forum = self.channels.get(&channel).is_some_and(|found| found["type"] == FORUM);
        match (thread, body["thread_name"].as_str()) {
            (Some(thread), _) => match self.refusal(&thread) {
                // A webhook opens what is archived.
                Some((_, why)) if why["code"] == 50083 => self.post(&target, &thread, body),
                Some(refusal) => refusal,
                None => self.post(&target, &thread, body),
            },
            (None, None) if is_forum => {
                (400, error(220_001, "Webhooks posted to forum channels must have a thread_name"))
            }
            (None, Some(_)) if !is_forum => {
                (400, error(220_003, "Webhooks can only create threads in forum channels"))
            }
            (None, Some(name)) => {
                let (status, mut message) = self.post(&target, "", body);
                let id = message["id"].as_str().unwrap().to_owned();
                let tags = body["applied_tags"].clone();
                self.begin(&id, &json!({ "name": name, "applied_tags": tags }));
                message["channel_id"] = json!(id);
                (status, message)
            }
            (None, None) => self.post(&target, &channel, body),
        }
    }

    /// `channel` is where it is to be found.
    fn post(&mut self, target: &str, channel: &str, body: &Value) -> (u16, Value) {
        let nonce = body.get("nonce");
        if nonce.is_some() && body.get("enforce_nonce") == Some(&Value::Bool(true)) {
            let window = self.nonce_window;
            let known = self.messages.iter().find(|(message, at)| {
                message.target == target
                    && message.body.get("nonce") == nonce
                    && at.is_some_and(|at| at.elapsed() < window)
            });
            if let Some((message, _)) = known {
                let content = &message.body["content"];
                let found = json!({ "id": message.id, "channel_id": channel, "content": content });
                return (200, found);
            }
        }
        let id = (1_400_000_000_000_000_000_u64 + self.messages.len() as u64).to_string();
        let (target, channel) = (target.to_owned(), channel.to_owned());
        let message = Message { id: id.clone(), target, channel, body: body.clone() };
        let posted = json!({ "id": id, "channel_id": message.channel, "content": body["content"] });
        self.messages.push((message, Some(Instant::now())));
        (200, posted)
    }
}

/// A command as Discord lists it: with ids, and without options where there are none.
fn listed_command(command: &Value) -> Value {
    let mut listed = command.clone();
    let fields = listed.as_object_mut().unwrap();
    fields.insert("id".to_owned(), json!("1400000000000000001"));
    fields.insert("version".to_owned(), json!("1400000000000000002"));
    fields.retain(|_, value| *value != json!([]));
    let permissions = fields.get("default_member_permissions").map(Value::to_string);
    fields.insert("default_member_permissions".to_owned(), json!(permissions));
    listed
}

fn error(code: u64, message: &str) -> Value {
    json!({ "code": code, "message": message })
}
