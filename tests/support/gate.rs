//! A gate between a process and the servers it talks to: it passes everything on, and kills the
//! process at a chosen moment of the conversation.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A moment: what is passed on by all gates together is counted in pieces, in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// From 1.
    pub piece: usize,
    /// Whether the other side still gets the piece.
    pub after: bool,
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
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Gate {
    pub fn to(server: &str, victim: &Arc<Mutex<Victim>>) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, victim, server) = (Arc::clone(&stopped), Arc::clone(victim), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&server) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let victim = Arc::clone(&victim);
                    std::thread::spawn(move || pass(from, to, &victim));
                }
            }
        });
        Gate { address, stopped }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, victim: &Mutex<Victim>) {
    let mut piece = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let mut victim: MutexGuard<'_, Victim> = victim.lock().unwrap();
        victim.pieces += 1;
        let moment = victim.moment.filter(|moment| moment.piece == victim.pieces);
        let passed = match moment {
            Some(Moment { after: false, .. }) => false,
            _ => to.write_all(&piece[..length]).is_ok(),
        };
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
