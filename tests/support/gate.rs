//! A gate between a process and the servers it talks to: it passes everything on, and kills the
//! process at a chosen moment of the conversation.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};

use super::listen::Listening;

/// A moment of what is passed on by all gates together, in pieces, in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// By number, from 1; `after` is whether the other side still gets the piece.
    Piece { number: usize, after: bool },
    /// When the other side has got a piece with this in it.
    Said(&'static str),
}

impl Moment {
    /// Whether it has come, and whether the piece is still passed on.
    fn has_come(self, pieces: usize, piece: &[u8]) -> Option<bool> {
        match self {
            Moment::Piece { number, after } => (number == pieces).then_some(after),
            Moment::Said(text) => {
                piece.windows(text.len()).any(|part| part == text.as_bytes()).then_some(true)
            }
        }
    }
}

/// The process behind the gates.
#[derive(Debug, Default)]
pub struct Victim {
    child: Option<Child>,
    moment: Option<Moment>,
    pieces: usize,
}

impl Victim {
    /// `child` dies at that moment, if it comes.
    pub fn is(&mut self, child: Child, moment: Option<Moment>) {
        (self.child, self.moment, self.pieces) = (Some(child), moment, 0);
    }

    /// Pieces passed on since it began.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    pub fn is_alive(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL. False if it was dead already.
    pub fn kill(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        child.kill().unwrap();
        child.wait().unwrap();
        true
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Passes on to one server.
#[derive(Debug)]
pub struct Gate {
    listening: Listening,
}

impl Gate {
    pub fn to(server: &str, victim: &Arc<Mutex<Victim>>) -> Gate {
        let (victim, server) = (Arc::clone(victim), server.to_owned());
        let listening = Listening::start(move |client| {
            let Ok(server) = TcpStream::connect(&server) else { return };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let victim = Arc::clone(&victim);
                std::thread::spawn(move || pass(from, to, &victim));
            }
        });
        Gate { listening }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, victim: &Mutex<Victim>) {
    let mut piece = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let mut victim: MutexGuard<'_, Victim> = victim.lock().unwrap();
        victim.pieces += 1;
        let count = victim.pieces;
        let moment = victim.moment.and_then(|moment| moment.has_come(count, &piece[..length]));
        let passed = moment != Some(false) && to.write_all(&piece[..length]).is_ok();
        if moment.is_some() {
            victim.kill();
        }
        drop(victim);
        if !passed {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}
