//! Discord's gateway on loopback: HELLO, IDENTIFY, READY, heartbeats, RESUME and what a test has
//! it say. One session at a time, as for one bot.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// What a test has the gateway do.
#[derive(Debug)]
enum Order {
    /// Dispatch an event; where nobody is connected, it waits for a RESUME.
    Dispatch(&'static str, Value),
    /// Any other message.
    Say(Value),
    /// End the connection with this code; 0 breaks the line.
    Close(u16),
}

#[derive(Debug)]
struct State {
    heard: Mutex<Vec<Value>>,
    url: String,
    heartbeat: Duration,
    /// Heartbeats are not acknowledged.
    deaf: Mutex<bool>,
    /// Where it says that a session is to be taken up again, if not here.
    resume_url: Mutex<Option<String>>,
    /// No session is taken up again.
    forgetful: Mutex<bool>,
}

/// The server; it ends with its value.
#[derive(Debug)]
pub struct GatewayStandIn {
    state: Arc<State>,
    orders: mpsc::UnboundedSender<Order>,
}

impl GatewayStandIn {
    /// With this time between heartbeats.
    pub fn start(heartbeat: Duration) -> GatewayStandIn {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            heard: Mutex::default(),
            url,
            heartbeat,
            deaf: Mutex::default(),
            resume_url: Mutex::default(),
            forgetful: Mutex::default(),
        });
        let (orders, taken) = mpsc::unbounded_channel();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, taken, &shared));
        });
        GatewayStandIn { state, orders }
    }

    /// For `[discord] gateway_url`, or for GET /gateway to say.
    pub fn url(&self) -> &str {
        &self.state.url
    }

    /// Dispatches INTERACTION_CREATE.
    pub fn interaction(&self, interaction: Value) {
        self.orders.send(Order::Dispatch("INTERACTION_CREATE", interaction)).unwrap();
    }

    /// Says anything, such as opcode 7.
    pub fn say(&self, message: Value) {
        self.orders.send(Order::Say(message)).unwrap();
    }

    /// Closes the connection with a code; 0 breaks the line.
    pub fn close(&self, code: u16) {
        self.orders.send(Order::Close(code)).unwrap();
    }

    /// Whether heartbeats are left without an answer.
    pub fn deaf(&self, deaf: bool) {
        *self.state.deaf.lock().unwrap() = deaf;
    }

    /// Where new sessions are told to be taken up again.
    pub fn resume_elsewhere(&self, url: &str) {
        *self.state.resume_url.lock().unwrap() = Some(url.to_owned());
    }

    /// From now on a RESUME is answered with an invalid session.
    pub fn forget_sessions(&self) {
        *self.state.forgetful.lock().unwrap() = true;
    }

    /// All messages that came, heartbeats too.
    pub fn heard(&self) -> Vec<Value> {
        self.state.heard.lock().unwrap().clone()
    }

    /// The opcodes that came, without heartbeats.
    pub fn opcodes(&self) -> Vec<u64> {
        let heard = self.heard();
        heard.iter().filter_map(|one| one["op"].as_u64()).filter(|op| *op != 1).collect()
    }
}

/// What there is of the one session.
#[derive(Default)]
struct Session {
    sequence: u64,
    /// For those who resume: sequence and message.
    said: Vec<(u64, Value)>,
    /// What a test had dispatched while nobody was connected. Discord would not keep it for a new
    /// session; here a test need not wait for a connection.
    waiting: Vec<(&'static str, Value)>,
}

impl Session {
    fn event(&mut self, name: &str, data: &Value) -> Value {
        self.sequence += 1;
        let event = json!({ "op": 0, "t": name, "s": self.sequence, "d": data });
        self.said.push((self.sequence, event.clone()));
        event
    }
}

async fn serve(
    listener: std::net::TcpListener,
    mut orders: mpsc::UnboundedReceiver<Order>,
    state: &State,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut session = Session::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { continue };
                if attend(socket, &mut session, &mut orders, state).await.is_none() {
                    return;
                }
            }
            order = orders.recv() => match order {
                None => return,
                Some(Order::Dispatch(name, data)) => session.waiting.push((name, data)),
                Some(_) => {}
            }
        }
    }
}

/// One connection; none when the test is over.
async fn attend(
    mut socket: WebSocketStream<TcpStream>,
    session: &mut Session,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    state: &State,
) -> Option<()> {
    let mut ready = false;
    let interval = state.heartbeat.as_millis() as u64;
    send(&mut socket, json!({ "op": 10, "d": { "heartbeat_interval": interval } })).await;
    loop {
        tokio::select! {
            order = orders.recv(), if ready => match order? {
                Order::Dispatch(name, data) => {
                    let event = session.event(name, &data);
                    send(&mut socket, event).await;
                }
                Order::Say(message) => send(&mut socket, message).await,
                Order::Close(0) => return Some(()),
                Order::Close(code) => {
                    let frame = CloseFrame { code: code.into(), reason: "".into() };
                    let _ = socket.close(Some(frame)).await;
                    return Some(());
                }
            },
            message = socket.next() => {
                let Some(Ok(message)) = message else { return Some(()) };
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                state.heard.lock().unwrap().push(message.clone());
                match message["op"].as_u64() {
                    Some(1) if !*state.deaf.lock().unwrap() => {
                        send(&mut socket, json!({ "op": 11 })).await;
                    }
                    Some(2) => {
                        let waiting = std::mem::take(&mut session.waiting);
                        *session = Session::default();
                        let elsewhere = state.resume_url.lock().unwrap().clone();
                        let resume_url = elsewhere.unwrap_or_else(|| state.url.clone());
                        let welcome = session.event("READY", &json!({
                            "v": 10,
                            "user": { "id": "1", "username": "beadle" },
                            "guilds": [],
                            "session_id": "session-1",
                            "resume_gateway_url": resume_url,
                            "application": { "id": "22", "flags": 0 },
                        }));
                        send(&mut socket, welcome).await;
                        for (name, data) in waiting {
                            let event = session.event(name, &data);
                            send(&mut socket, event).await;
                        }
                        ready = true;
                    }
                    Some(6) if *state.forgetful.lock().unwrap() => {
                        send(&mut socket, json!({ "op": 9, "d": false })).await;
                    }
                    Some(6) => {
                        for (name, data) in std::mem::take(&mut session.waiting) {
                            session.event(name, &data);
                        }
                        let last = message["d"]["seq"].as_u64().unwrap_or(0);
                        let missed = session.said.iter().filter(|(number, _)| *number > last);
                        for (_, event) in missed {
                            send(&mut socket, event.clone()).await;
                        }
                        let resumed = session.event("RESUMED", &Value::Null);
                        send(&mut socket, resumed).await;
                        ready = true;
                    }
                    _ => {}
                }
            }
        }
    }
}

async fn send(socket: &mut WebSocketStream<TcpStream>, message: Value) {
    let _ = socket.send(Message::text(message.to_string())).await;
}
