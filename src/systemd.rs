//! What systemd wants to hear of a unit with `Type=notify`, and of its watchdog.
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>

use std::ffi::{OsStr, OsString};
use std::time::Duration;

#[cfg(unix)]
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::debug;

/// The line to the service manager; says nothing where there is none.
#[derive(Debug, Default)]
pub struct Systemd {
    #[cfg(unix)]
    line: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment of this process says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_environment() -> Systemd {
        Systemd::new(|name| std::env::var_os(name), std::process::id())
    }

    /// As the environment says that is given.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Systemd {
        let number =
            |name: &str| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let for_us = number("WATCHDOG_PID").is_none_or(|watched| watched == u64::from(pid));
        Systemd {
            #[cfg(unix)]
            line: variable("NOTIFY_SOCKET")
                .and_then(|path| Some((UnixDatagram::unbound().ok()?, address(&path)?))),
            watchdog: number("WATCHDOG_USEC")
                .filter(|usec| for_us && *usec > 0)
                .map(Duration::from_micros),
        }
    }

    /// How long the watchdog waits for a sign; none where it does not watch.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// One or more lines such as `READY=1`.
    pub fn notify(&self, state: &str) {
        #[cfg(unix)]
        if let Some((socket, address)) = &self.line
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            debug!(%error, state, "systemd was not told");
        }
        #[cfg(not(unix))]
        debug!(state, "there is no systemd");
    }
}

/// A path, or with `@` before it a name in the abstract namespace of Linux.
#[cfg(unix)]
fn address(path: &OsStr) -> Option<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name).ok();
    }
    SocketAddr::from_pathname(path).ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        use std::os::linux::net::SocketAddrExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("beadle-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let table = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ];
        for (socket, variable) in table {
            let systemd =
                Systemd::new(|name| (name == "NOTIFY_SOCKET").then(|| variable.clone()), 1);
            systemd.notify("READY=1");
            let mut said = [0; 64];
            let length = socket.recv(&mut said).unwrap();
            assert_eq!(&said[..length], b"READY=1");
            assert_eq!(systemd.watchdog(), None);
        }
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let table = [
            (Some("30000000"), Some("7"), Some(30)),
            (Some("30000000"), None, Some(30)),
            (Some("30000000"), Some("8"), None),
            (Some("0"), Some("7"), None),
            (Some("soon"), None, None),
            (None, Some("7"), None),
        ];
        for (usec, pid, seconds) in table {
            let variable = |name: &str| match name {
                "WATCHDOG_USEC" => usec.map(OsString::from),
                "WATCHDOG_PID" => pid.map(OsString::from),
                _ => None,
            };
            let watchdog = Systemd::new(variable, 7).watchdog();
            assert_eq!(watchdog, seconds.map(Duration::from_secs), "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn without_systemd_nothing_happens() {
        Systemd::new(|_| None, 1).notify("READY=1");
    }
}
