//! Whom beadle trusts: a server with a certificate of an authority that nobody knows is trusted with
//! `[tls] ca_file`, and not without, by feeds, Discord and mail alike. One whose certificate is over or
//! another host's is not trusted in any case.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use beadle::config::Config;
use beadle::fetch::{FetchErrorKind, Validators};
use beadle::notify::NotifyError;
use beadle::{app, tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::world::calendar;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// Speaks TLS, and in it so much HTTP and SMTP as is asked for here.
fn server(
    certificate: &str,
    greeting: &'static str,
    answer: fn(&str) -> Option<String>,
) -> SocketAddr {
    tls::install();
    let certificate = CertificateDer::from_pem_file(fixture(certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(session, stream));
            // An error is a client that does not trust us.
            let _ = (|| {
                stream.get_mut().write_all(greeting.as_bytes())?;
                let mut line = String::new();
                while stream.read_line(&mut line)? > 0 {
                    if let Some(answer) = answer(&line) {
                        stream.get_mut().write_all(answer.as_bytes())?;
                        stream.get_mut().flush()?;
                    }
                    line.clear();
                }
                std::io::Result::Ok(())
            })();
        }
    });
    address
}

fn http(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    judge("server.pem", None, false).await;
    judge("server.pem", Some("authority.pem"), true).await;
}

#[tokio::test]
async fn a_certificate_that_is_over_or_of_another_host_is_refused() {
    judge("expired.pem", Some("authority.pem"), false).await;
    judge("other.pem", Some("authority.pem"), false).await;
}

/// Whether servers with that certificate are trusted, by one who trusts that authority.
async fn judge(certificate: &str, authority: Option<&str>, trusted: bool) {
    let web = server(certificate, "", |line| {
        let body = if line == "\r\n" { calendar(&[]) } else { return None };
        Some(http(&body))
    });
    let discord = server(certificate, "", |line| {
        (line == "\r\n").then(|| http("{\"id\":\"7\",\"name\":\"general\",\"type\":0}"))
    });
    let mail = server(certificate, "220 mail.example.edu ESMTP\r\n", |line| {
        Some(if line.starts_with("QUIT") { "221 Bye\r\n" } else { "250 Ok\r\n" }.to_owned())
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "a-token").unwrap();
    let mut text = format!(
        "timezone = \"UTC\"\n[feed.site]\nurl = \"https://{web}/\"\nprivate = true\n\
         [receiver.channel]\ndiscord = {{ channel = \"7\" }}\n\
         [receiver.list]\nemail = {{ to = [\"ann@example.edu\"] }}\n\
         [discord]\ntoken = {{ file = \"token\" }}\napi_url = \"https://{discord}\"\n\
         [email]\nfrom = \"beadle@example.edu\"\nserver = \"smtps://{mail}\"\n"
    );
    if let Some(authority) = authority {
        text += &format!("[tls]\nca_file = {:?}\n", fixture(authority));
    }
    let config = Config::parse(&text, &folder.path().join("config.toml")).unwrap();
    let (fetcher, registry) = app::connections(&config).unwrap();
    match fetcher.fetch(&config.feeds["site"], &Validators::default()).await {
        Err(error) if !trusted => {
            assert!(matches!(error.kind(), FetchErrorKind::Tls(_)), "{error}");
        }
        read => assert!(read.is_ok() && trusted, "{certificate}: {read:?}"),
    }
    for id in ["channel/discord", "list/email/ann@example.edu"] {
        match registry.get(id).unwrap().notifier.check().await {
            Err(error) if !trusted => {
                assert!(!matches!(error, NotifyError::Permanent { .. }), "{error}");
                assert!(error.to_string().contains("certificate"), "{error}");
            }
            checked => assert!(checked.is_ok() && trusted, "{certificate}, {id}: {checked:?}"),
        }
    }
}
