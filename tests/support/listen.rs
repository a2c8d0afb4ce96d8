//! The part that all stand-ins have in common: a listener on a free port of loopback.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Takes connections until it is dropped, each on a thread of its own.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    /// Connections that are not over.
    served: Arc<AtomicUsize>,
}

impl Listening {
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let (stop, serve) = (Arc::clone(&stopped), Arc::new(serve));
        let count = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (serve, one) = (Arc::clone(&serve), One::of(&count));
                std::thread::spawn(move || {
                    serve(stream);
                    drop(one);
                });
            }
        });
        Listening { address, stopped, served }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until what those who are gone had said is heard, and done.
    pub fn hear_out(&self) {
        // They are taken in their order, this one last.
        let mut last = TcpStream::connect(self.address).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        io::copy(&mut last, &mut io::sink()).unwrap();
        while self.served.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A connection, counted as long as it is served.
struct One(Arc<AtomicUsize>);

impl One {
    fn of(count: &Arc<AtomicUsize>) -> One {
        count.fetch_add(1, Ordering::SeqCst);
        One(Arc::clone(count))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}
