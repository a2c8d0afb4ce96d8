//! How the program is watched and whom it trusts: `[http]`, `[alive]`, `[tls]`.

use std::net::SocketAddr;

use jiff::SignedDuration;

use super::reader::{Parsed, Reader, Table};
use super::report::Complaint;
use super::{Alive, HttpServer, values};

/// `[http]`
pub(super) fn http<'a>(r: &mut Reader<'a>, mut table: Table<'a>) -> Option<HttpServer> {
    r.require(&table, "listen", "\"127.0.0.1:9464\"");
    let listen = r.parsed(&mut table, "listen", socket_address);
    r.finish(table);
    listen.map(|listen| HttpServer { listen })
}

/// `[alive]`
pub(super) fn alive<'a>(r: &mut Reader<'a>, mut table: Table<'a>) -> Option<Alive> {
    r.require(&table, "url", "{ env = \"ALIVE_URL\" }");
    let url = r.secret(&mut table, "url");
    let every = r.parsed(&mut table, "every", values::unsigned("60s", "24h"));
    let tolerance = r.parsed(&mut table, "tolerance", values::duration("0s", "30d"));
    r.finish(table);
    Some(Alive {
        url: url?,
        every: every.unwrap_or(std::time::Duration::from_secs(5 * 60)),
        tolerance: tolerance.unwrap_or(SignedDuration::from_hours(6)),
    })
}

/// `127.0.0.1:9464`, `[::1]:9464`
fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| {
        Complaint::new(
            format!("{text:?} is no address with a port"),
            "write it as \"127.0.0.1:9464\", or \"0.0.0.0:9464\" for every network of this machine",
        )
    })
}
