//! An SMTP server that keeps every mail, and fails where it is told to.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::listen::Listening;

/// A mail that was accepted.
#[derive(Clone, Debug)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    /// As sent, dot-stuffing undone.
    pub data: String,
    /// Number of the connection it came by, from 0.
    pub connection: usize,
}

/// Where in the exchange a fault is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Greeting,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// After the final dot.
    Dot,
    /// The check of a connection that is used again.
    Rset,
}

/// What happens there, once, instead of what should.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This reply line; at [`At::Dot`] the mail is not kept.
    Reply(String),
    /// The line is cut without a reply; at [`At::Dot`] the mail is not kept.
    Cut,
    /// [`At::Dot`] only: the mail is kept and the line is cut.
    KeepThenCut,
    /// No reply until the client gives up; at [`At::Dot`] the mail is kept.
    Silence,
}

impl Fault {
    pub fn reply(line: &str) -> Fault {
        Fault::Reply(line.to_owned())
    }
}

#[derive(Debug, Default)]
struct State {
    faults: HashMap<At, VecDeque<Fault>>,
    refused: HashMap<String, String>,
    login: Option<(String, String)>,
    starttls: bool,
    commands: Vec<String>,
    mails: Vec<Received>,
    connections: usize,
}

/// The server; it stops taking connections when dropped.
#[derive(Debug)]
pub struct SmtpStandIn {
    listening: Listening,
    state: Arc<Mutex<State>>,
}

impl SmtpStandIn {
    /// Takes every mail, from anyone, and offers neither STARTTLS nor AUTH.
    pub fn start() -> SmtpStandIn {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let listening = Listening::start(move |stream| serve(stream, &shared));
        SmtpStandIn { listening, state }
    }

    pub fn host(&self) -> String {
        self.listening.address().ip().to_string()
    }

    pub fn port(&self) -> u16 {
        self.listening.address().port()
    }

    /// A fault to come; several for the same place come one after the other.
    pub fn script(&self, at: At, fault: Fault) {
        self.state().faults.entry(at).or_default().push_back(fault);
    }

    /// Always this reply to this recipient.
    pub fn refuse(&self, recipient: &str, reply: &str) {
        self.state().refused.insert(recipient.to_owned(), reply.to_owned());
    }

    /// No longer refuses this recipient.
    pub fn accept(&self, recipient: &str) {
        self.state().refused.remove(recipient);
    }

    /// Offers PLAIN and LOGIN, and takes mail only after one of them.
    pub fn require_login(&self, username: &str, password: &str) {
        self.state().login = Some((username.to_owned(), password.to_owned()));
    }

    /// Offers STARTTLS; there is no certificate, so only its refusal can be scripted.
    pub fn offer_starttls(&self) {
        self.state().starttls = true;
    }

    /// Waits until what those who are gone had said is heard, and done.
    pub fn hear_out(&self) {
        self.listening.hear_out();
    }

    /// All mails kept so far.
    pub fn mails(&self) -> Vec<Received> {
        self.state().mails.clone()
    }

    /// All command lines so far, logins included.
    pub fn commands(&self) -> Vec<String> {
        self.state().commands.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let connection = {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        state.connections - 1
    };
    let reader = BufReader::new(stream.try_clone().unwrap());
    // An error is a line that was cut, by either side.
    let _ = Session { reader, stream, state, connection }.run();
}

struct Session<'a> {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
    state: &'a Mutex<State>,
    connection: usize,
}

impl Session<'_> {
    fn run(&mut self) -> io::Result<()> {
        self.answer(At::Greeting, "220 mail.example.edu ESMTP")?;
        let (mut from, mut to) = (String::new(), Vec::new());
        let mut known = self.state().login.is_none();
        loop {
            let line = self.line()?;
            self.state().commands.push(line.clone());
            let command = line.to_ascii_uppercase();
            if command.starts_with("EHLO") {
                let state = self.state();
                let mut lines = vec!["250-mail.example.edu", "250-8BITMIME"];
                lines.extend(state.starttls.then_some("250-STARTTLS"));
                lines.extend(state.login.is_some().then_some("250-AUTH PLAIN LOGIN"));
                lines.push("250 PIPELINING");
                let reply = lines.join("\r\n");
                drop(state);
                self.answer(At::Ehlo, &reply)?;
            } else if command.starts_with("STARTTLS") {
                self.answer(At::StartTls, "454 4.7.0 TLS not available")?;
            } else if command.starts_with("AUTH") {
                let login = self.state().login.clone();
                let wanted = login.map(|(user, password)| format!("\0{user}\0{password}"));
                let given = BASE64.decode(line.split(' ').nth(2).unwrap_or_default());
                known = wanted.is_some_and(|wanted| given.is_ok_and(|g| g == wanted.as_bytes()));
                let refused = format!("535 5.7.8 Authentication failed: {line}");
                self.answer(At::Auth, if known { "235 2.7.0 Welcome" } else { &refused })?;
            } else if command.starts_with("MAIL FROM:") {
                if known {
                    from = address(&line);
                    to.clear();
                    self.answer(At::Mail, "250 2.1.0 Ok")?;
                } else {
                    self.answer(At::Mail, "530 5.7.0 Authentication required")?;
                }
            } else if command.starts_with("RCPT TO:") {
                let recipient = address(&line);
                let refusal = self.state().refused.get(&recipient).cloned();
                if refusal.is_none() {
                    to.push(recipient);
                }
                self.answer(At::Rcpt, refusal.as_deref().unwrap_or("250 2.1.5 Ok"))?;
            } else if command == "DATA" {
                if self.answer(At::Data, "354 End data with <CR><LF>.<CR><LF>")? {
                    continue;
                }
                let data = self.data()?;
                let mail = Received {
                    from: from.clone(),
                    to: to.clone(),
                    data,
                    connection: self.connection,
                };
                self.dot(mail)?;
            } else if command == "RSET" {
                self.answer(At::Rset, "250 2.0.0 Ok")?;
            } else if command == "QUIT" {
                return self.reply("221 2.0.0 Bye");
            } else {
                self.reply("500 5.5.2 Command not known")?;
            }
        }
    }

    fn dot(&mut self, mail: Received) -> io::Result<()> {
        let fault = self.fault(At::Dot);
        if !matches!(fault, Some(Fault::Reply(_) | Fault::Cut)) {
            self.state().mails.push(mail);
        }
        match fault {
            None => self.reply("250 2.0.0 Ok: queued as 4F1A"),
            Some(fault) => self.fail(fault),
        }
    }

    /// The reply, or the fault that is scripted for here; whether it was a fault.
    fn answer(&mut self, at: At, reply: &str) -> io::Result<bool> {
        match self.fault(at) {
            Some(fault) => self.fail(fault).map(|()| true),
            None => self.reply(reply).map(|()| false),
        }
    }

    fn fault(&self, at: At) -> Option<Fault> {
        self.state().faults.get_mut(&at).and_then(VecDeque::pop_front)
    }

    fn fail(&mut self, fault: Fault) -> io::Result<()> {
        match fault {
            Fault::Reply(line) => self.reply(&line),
            Fault::Cut | Fault::KeepThenCut => Err(io::ErrorKind::ConnectionAborted.into()),
            Fault::Silence => {
                // What the client still says is heard and not answered, until it hangs up.
                io::copy(&mut self.reader.by_ref(), &mut io::sink())?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    fn reply(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn data(&mut self) -> io::Result<String> {
        let mut data = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == ".\r\n" {
                return Ok(data);
            }
            data.push_str(line.strip_prefix('.').unwrap_or(&line));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// What stands between `<` and `>`.
fn address(line: &str) -> String {
    let rest = line.split_once('<').map_or("", |(_, rest)| rest);
    rest.split_once('>').map_or("", |(address, _)| address).to_owned()
}
