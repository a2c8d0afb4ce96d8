//! Reading feeds from servers on loopback that answer byte for byte what a test tells them to.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use beadle::config::secret::SecretSource;
use beadle::config::{Auth, Feed, FeedUrl};
use beadle::fetch::{self, Advice, FetchError, FetchErrorKind as Kind, Fetcher, Validators};
use beadle::guard::Class;
use jiff::SignedDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

const CALENDAR: &[u8] = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n";
/// Stands in every path, query and secret of these tests, and must stand in no error.
const CANARY: &str = "canary-7f3a";

/// What a server does on a connection once it has read the request; then it closes it.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// Sends 64 KiB of blanks again and again until the other side has had enough.
    Flood,
    /// Breaks the connection with a TCP reset.
    Reset,
}

struct Server {
    port: u16,
    /// Heads of all requests so far.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers the n-th request with the n-th script, and further ones with the last.
    async fn start(scripts: Vec<Vec<Step>>) -> Server {
        Server::listen(listener().await, scripts)
    }

    fn listen(listener: TcpListener, scripts: Vec<Vec<Step>>) -> Server {
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let nth = {
                    let mut log = log.lock().unwrap();
                    log.push(String::from_utf8(head).unwrap());
                    log.len() - 1
                };
                let script = scripts[nth.min(scripts.len() - 1)].clone();
                tokio::spawn(async move {
                    for step in script {
                        match step {
                            Step::Send(bytes) => {
                                if socket.write_all(&bytes).await.is_err() {
                                    return;
                                }
                            }
                            Step::Wait(time) => tokio::time::sleep(time).await,
                            Step::Flood => while socket.write_all(&[b' '; 65536]).await.is_ok() {},
                            Step::Reset => socket.set_zero_linger().unwrap(),
                        }
                    }
                });
            }
        });
        Server { port, requests }
    }

    /// A server with one whole answer: status line and headers, and a body of the right length.
    async fn answering(head: &str, body: &[u8]) -> Server {
        Server::start(vec![vec![answer(head, body)]]).await
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}/{CANARY}/basic.ics?key={CANARY}", self.port))
            .unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

fn raw(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

fn answer(head: &str, body: &[u8]) -> Step {
    let head = head.replace('\n', "\r\n");
    let head =
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    Step::Send([head.as_bytes(), body].concat())
}

fn feed(url: Url) -> Feed {
    Feed {
        name: "seas".to_owned(),
        url: FeedUrl::Http(url),
        timezone: None,
        every: SignedDuration::from_mins(15),
        settle: SignedDuration::from_mins(5),
        confirm: SignedDuration::from_mins(30),
        also: Vec::new(),
        pages: 1,
        lookups: Some(Vec::new()),
        private: true,
        auth: None,
        headers: Vec::new(),
        user_agent: None,
        timeout: Duration::from_secs(30),
        max_bytes: 1 << 20,
    }
}

/// What was fetched, its body read to the end.
#[derive(Debug)]
enum Fetched {
    NotModified {
        advice: Advice,
    },
    Body {
        bytes: Vec<u8>,
        charset: Option<String>,
        validators: Validators,
        advice: Advice,
        moved_to: Option<url::Url>,
    },
}

/// Fetches once, and holds every error to its promise: what it shows names no address and no
/// secret.
async fn fetch(feed: &Feed, validators: &Validators) -> Result<Fetched, FetchError> {
    let result = Fetcher::new().unwrap().fetch(feed, validators).await;
    if let Ok(fetched) = &result {
        assert!(!format!("{fetched:?}").contains(CANARY), "{fetched:?}");
    }
    let result = match result {
        Ok(fetch::Fetched::NotModified { advice }) => Ok(Fetched::NotModified { advice }),
        Ok(fetch::Fetched::Body { body, charset, validators, advice, moved_to }) => body
            .bytes()
            .await
            .map(|bytes| Fetched::Body { bytes, charset, validators, advice, moved_to }),
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        let shown = format!("{error} {error:?} {:?}", error.hint());
        assert!(!shown.contains(CANARY), "{shown}");
    }
    result
}

async fn get(server: &Server) -> Result<Fetched, FetchError> {
    fetch(&feed(server.url()), &Validators::default()).await
}

#[track_caller]
fn bytes_of(result: Result<Fetched, FetchError>) -> Vec<u8> {
    match result.unwrap() {
        Fetched::Body { bytes, .. } => bytes,
        other => panic!("{other:?}"),
    }
}

fn secret_file(folder: &Path, value: &str) -> SecretSource {
    let nth = std::fs::read_dir(folder).unwrap().count();
    let path = folder.join(format!("secret-{nth}"));
    std::fs::write(&path, value).unwrap();
    SecretSource::File(path)
}

#[tokio::test]
async fn a_calendar_with_everything_said_about_it() {
    let server = Server::answering(
        "200 OK\nContent-Type: text/calendar; charset=UTF-8\nETag: W/\"v1\"\n\
         Last-Modified: Mon, 23 Nov 2026 11:00:00 GMT\nCache-Control: max-age=600\n\
         Date: Mon, 23 Nov 2026 12:00:00 GMT",
        CALENDAR,
    )
    .await;
    let Fetched::Body { bytes, charset, validators, advice, moved_to } =
        get(&server).await.unwrap()
    else {
        panic!("not a body");
    };
    assert_eq!(bytes, CALENDAR);
    assert_eq!(charset.as_deref(), Some("UTF-8"));
    assert_eq!(validators.etag.as_deref(), Some("W/\"v1\""));
    assert_eq!(validators.last_modified.as_deref(), Some("Mon, 23 Nov 2026 11:00:00 GMT"));
    assert_eq!(advice.max_age, Some(SignedDuration::from_mins(10)));
    assert_eq!(advice.date, Some("2026-11-23T12:00:00Z".parse().unwrap()));
    assert_eq!(moved_to, None);

    let request = &server.requests()[0];
    let version = env!("CARGO_PKG_VERSION");
    assert!(request.starts_with(&format!("GET /{CANARY}/basic.ics?key={CANARY} HTTP/1.1\r\n")));
    assert!(request.contains(&format!("user-agent: beadle/{version} (calendar feed announcer)")));
    assert!(request.contains("accept: text/calendar"), "{request}");
    for absent in ["if-none-match", "if-modified-since", "authorization", "referer", "cookie"] {
        assert!(!request.contains(absent), "{request}");
    }
}

#[tokio::test]
async fn validators_go_back_and_bring_304() {
    let head = "304 Not Modified\nCache-Control: max-age=60";
    let server = Server::answering(head, b"").await;
    let validators = Validators {
        etag: Some("W/\"v1\"".to_owned()),
        last_modified: Some("Mon, 23 Nov 2026 11:00:00 GMT".to_owned()),
    };
    let Fetched::NotModified { advice } = fetch(&feed(server.url()), &validators).await.unwrap()
    else {
        panic!("modified");
    };
    assert_eq!(advice.max_age, Some(SignedDuration::from_mins(1)));
    let request = &server.requests()[0];
    assert!(request.contains("if-none-match: W/\"v1\"\r\n"), "{request}");
    assert!(request.contains("if-modified-since: Mon, 23 Nov 2026 11:00:00 GMT\r\n"), "{request}");

    let unasked = get(&server).await.unwrap_err();
    assert_eq!(*unasked.kind(), Kind::Status(304), "nothing is known that could be unmodified");
}

#[tokio::test]
async fn bodies_without_a_length() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   10\r\nBEGIN:VCALENDAR\n\r\nE\r\nEND:VCALENDAR\n\r\n0\r\n\r\n";
    let closed = "HTTP/1.0 200 OK\r\n\r\nBEGIN:VCALENDAR\nEND:VCALENDAR\n";
    for text in [chunked, closed] {
        let server = Server::start(vec![vec![raw(text)]]).await;
        let body = bytes_of(get(&server).await);
        assert_eq!(String::from_utf8(body).unwrap(), "BEGIN:VCALENDAR\nEND:VCALENDAR\n");
    }
}

#[tokio::test]
async fn statuses() {
    let secs = |s| Some(SignedDuration::from_secs(s));
    let date = "Date: Mon, 23 Nov 2026 12:00:00 GMT\nRetry-After: Mon, 23 Nov 2026 12:30:00 GMT";
    let table = [
        ("401 Unauthorized".to_owned(), Kind::Unauthorized(401), None),
        ("403 Forbidden".to_owned(), Kind::Unauthorized(403), None),
        ("404 Not Found".to_owned(), Kind::Status(404), None),
        ("410 Gone".to_owned(), Kind::Gone, None),
        ("429 Slow Down\nRetry-After: 120".to_owned(), Kind::Status(429), secs(120)),
        (format!("429 Slow Down\n{date}"), Kind::Status(429), secs(1800)),
        ("500 Oops".to_owned(), Kind::Status(500), None),
        ("503 Maintenance\nRetry-After: 600".to_owned(), Kind::Status(503), secs(600)),
        ("206 Partial Content".to_owned(), Kind::Status(206), None),
        ("204 No Content".to_owned(), Kind::Empty, None),
    ];
    for (head, kind, retry_after) in table {
        // Whatever the body looks like, the status decides.
        let body = if head.starts_with("204") { b"" } else { CALENDAR };
        let error = get(&Server::answering(&head, body).await).await.unwrap_err();
        assert_eq!(*error.kind(), kind, "{head}");
        assert_eq!(error.retry_after(), retry_after, "{head}");
    }
}

#[tokio::test]
async fn errors_read_well() {
    let server = Server::answering("503 x", b"").await;
    let error = get(&server).await.unwrap_err();
    let place = format!("127.0.0.1:{}", server.port);
    assert_eq!(error.to_string(), format!("{place}: answered 503 Service Unavailable"));

    let page = format!("<html><head><title>Log in to {CANARY}</title></head></html>");
    let server = Server::answering("200 OK", page.as_bytes()).await;
    let error = get(&server).await.unwrap_err();
    let place = format!("127.0.0.1:{}", server.port);
    assert_eq!(error.to_string(), format!("{place}: an HTML page instead of a calendar"));
    assert!(error.hint().unwrap().contains("iCalendar"));
}

#[tokio::test]
async fn other_bodies_than_calendars() {
    let not = |looks_like: &str| Kind::NotACalendar { looks_like: looks_like.to_owned() };
    let page = b"<!doctype html><title>Just a moment...</title>";
    let table: [(&str, &[u8], Kind); 6] = [
        ("200 OK", page, not("an HTML page titled “Just a moment...”")),
        ("200 OK\nContent-Type: text/calendar", b"{\"error\":1}", not("JSON")),
        ("200 OK", b"<?xml version=\"1.0\"?><error/>", not("XML")),
        ("200 OK", b"", Kind::Empty),
        ("200 OK", b"\xEF\xBB\xBF\r\n", Kind::Empty),
        ("200 OK\nContent-Encoding: x-old", b"\x01\x02", not("data in the encoding “x-old”")),
    ];
    for (head, body, kind) in table {
        let error = get(&Server::answering(head, body).await).await.unwrap_err();
        assert_eq!(*error.kind(), kind);
    }
    let with_mark = [b"\xEF\xBB\xBF", CALENDAR].concat();
    let server = Server::answering("200 OK\nContent-Type: text/html", &with_mark).await;
    assert_eq!(bytes_of(get(&server).await), with_mark);
}

#[tokio::test]
async fn redirects_are_followed_with_all_that_belongs_to_the_host() {
    let folder = tempfile::tempdir().unwrap();
    for (statuses, moved) in [([301, 308], true), ([301, 302], false), ([307, 303], false)] {
        let hop = |status: u16, to: &str| vec![answer(&format!("{status} x\nLocation: {to}"), b"")];
        let server = Server::start(vec![
            hop(statuses[0], "/new"),
            hop(statuses[1], "newer?a=b"),
            vec![answer("200 OK", CALENDAR)],
        ])
        .await;
        let mut feed = feed(server.url());
        feed.auth = Some(Auth::Bearer { token: secret_file(folder.path(), CANARY) });
        feed.headers = vec![("X-Key".to_owned(), secret_file(folder.path(), CANARY))];
        let fetched = fetch(&feed, &Validators::default()).await.unwrap();
        let Fetched::Body { bytes, moved_to, .. } = fetched else { panic!("not a body") };
        assert_eq!(bytes, CALENDAR);
        let target = server.url().join("/newer?a=b").unwrap();
        assert_eq!(moved_to, moved.then_some(target), "{statuses:?}");
        assert!(server.requests()[2].starts_with("GET /newer?a=b "));
        for request in server.requests() {
            assert!(request.contains(&format!("authorization: Bearer {CANARY}\r\n")), "{request}");
            assert!(request.contains(&format!("x-key: {CANARY}\r\n")), "{request}");
            assert!(!request.contains("referer"), "{request}");
        }
    }
}

#[tokio::test]
async fn another_host_gets_no_credentials_and_cannot_lead_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let (home, elsewhere) = (listener().await, listener().await);
    let home_port = home.local_addr().unwrap().port();
    let elsewhere_port = elsewhere.local_addr().unwrap().port();
    let away = format!("301 x\nLocation: http://localhost:{elsewhere_port}/away");
    let back = format!("301 x\nLocation: http://127.0.0.1:{home_port}/back");
    let home = Server::listen(home, vec![vec![answer(&away, b"")], vec![answer("403 x", b"")]]);
    let elsewhere = Server::listen(elsewhere, vec![vec![answer(&back, b"")]]);

    let secret = || secret_file(folder.path(), CANARY);
    for auth in [
        Auth::Bearer { token: secret() },
        Auth::Basic { username: "reader".to_owned(), password: secret() },
    ] {
        home.requests.lock().unwrap().clear();
        elsewhere.requests.lock().unwrap().clear();
        let mut feed = feed(home.url());
        feed.auth = Some(auth);
        feed.headers = vec![("X-Key".to_owned(), secret())];
        let error = fetch(&feed, &Validators::default()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "127.0.0.1:{home_port} (redirected from 127.0.0.1:{home_port}): access refused: \
                 answered 403 Forbidden"
            )
        );
        let has_credentials =
            |request: &String| request.contains("authorization: ") || request.contains("x-key: ");
        assert_eq!(home.requests().iter().map(has_credentials).collect::<Vec<_>>(), [true, false]);
        let seen = elsewhere.requests();
        assert_eq!(seen.iter().map(has_credentials).collect::<Vec<_>>(), [false]);
        assert!(!seen[0].contains(CANARY), "{seen:?}");
    }
}

#[tokio::test]
async fn redirects_that_lead_nowhere() {
    let server = Server::answering("302 x\nLocation: /again", b"").await;
    assert_eq!(*get(&server).await.unwrap_err().kind(), Kind::TooManyRedirects);
    assert_eq!(server.requests().len(), 6, "the first request and five redirects");

    let table = [
        ("301 x", "without a Location"),
        ("301 x\nLocation: file:///etc/passwd", "to something that is not on the web"),
        ("301 x\nLocation: http://", "to no valid address"),
    ];
    for (head, why) in table {
        let error = get(&Server::answering(head, b"").await).await.unwrap_err();
        assert_eq!(*error.kind(), Kind::BadRedirect(why.to_owned()), "{head}");
    }
}

#[tokio::test]
async fn webcal_in_a_redirect_is_the_web() {
    let (from, to) = (listener().await, Server::answering("200 OK", CALENDAR).await);
    let location = format!("302 x\nLocation: webcal://127.0.0.1:{}/x", to.port);
    let from = Server::listen(from, vec![vec![answer(&location, b"")]]);
    assert_eq!(bytes_of(get(&from).await), CALENDAR);
}

#[tokio::test]
async fn what_is_configured_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::answering("200 OK", CALENDAR).await;
    let mut feed = feed(server.url());
    feed.auth = Some(Auth::Basic {
        username: "reader".to_owned(),
        password: secret_file(folder.path(), CANARY),
    });
    feed.user_agent = Some("Calendar Reader/1".to_owned());
    feed.headers = vec![("Accept".to_owned(), secret_file(folder.path(), "text/x-mine"))];
    bytes_of(fetch(&feed, &Validators::default()).await);
    let request = &server.requests()[0];
    // base64 of `reader:canary-7f3a`
    assert!(request.contains("authorization: Basic cmVhZGVyOmNhbmFyeS03ZjNh\r\n"), "{request}");
    assert!(request.contains("user-agent: Calendar Reader/1\r\n"), "{request}");
    assert!(request.contains("accept: text/x-mine\r\n"), "{request}");
    assert_eq!(request.matches("accept: ").count(), 1, "{request}");
}

#[tokio::test]
async fn unusable_secrets_are_not_sent_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::answering("200 OK", CALENDAR).await;
    let good = secret_file(folder.path(), CANARY);
    let broken = secret_file(folder.path(), &format!("{CANARY}\r\nX-Other: 1"));
    let missing = SecretSource::File(folder.path().join("missing"));
    for (token, header) in [
        (Some(&broken), None),
        (Some(&missing), None),
        (None, Some(("X-Key", &broken))),
        (None, Some(("X-Key", &missing))),
        (None, Some(("X Key", &good))),
    ] {
        let mut feed = feed(server.url());
        feed.auth = token.map(|token| Auth::Bearer { token: token.clone() });
        feed.headers =
            header.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        let error = fetch(&feed, &Validators::default()).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Secret(_) | Kind::Header(_)), "{error}");
        assert!(error.to_string().contains(": not asked: "), "{error}");
    }
    assert!(server.requests().is_empty(), "nothing was asked without its credentials");
}

#[tokio::test]
async fn the_limit_is_exact_and_counts_what_arrives() {
    let mut body = CALENDAR.to_vec();
    body.resize(4096, b' ');
    let chunked = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n".as_slice(),
        &body,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    for script in [answer("200 OK", &body), Step::Send(chunked)] {
        let server = Server::start(vec![vec![script]]).await;
        let mut feed = feed(server.url());
        feed.max_bytes = 4096;
        assert_eq!(bytes_of(fetch(&feed, &Validators::default()).await).len(), 4096);
        feed.max_bytes = 4095;
        let error = fetch(&feed, &Validators::default()).await.unwrap_err();
        assert_eq!(*error.kind(), Kind::TooLarge { limit: 4095 });
    }
}

#[tokio::test]
async fn too_much_is_refused_before_it_has_come() {
    let announced = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nBEGIN:VCALENDAR\r\n";
    let announced = vec![raw(announced), Step::Wait(Duration::from_secs(60))];
    let endless = vec![raw("HTTP/1.1 200 OK\r\n\r\nBEGIN:VCALENDAR\r\n"), Step::Flood];
    for script in [announced, endless] {
        let server = Server::start(vec![script]).await;
        let began = Instant::now();
        let error = get(&server).await.unwrap_err();
        assert_eq!(*error.kind(), Kind::TooLarge { limit: 1 << 20 });
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
}

/// `bytes` in each encoding that a request accepts.
async fn compressed(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    macro_rules! encode {
        ($name:literal, $encoder:ident) => {
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all(bytes).await.unwrap();
            encoder.shutdown().await.unwrap();
            all.push(($name, encoder.into_inner()));
        };
    }
    encode!("gzip", GzipEncoder);
    encode!("deflate", ZlibEncoder);
    encode!("br", BrotliEncoder);
    encode!("zstd", ZstdEncoder);
    all
}

#[tokio::test]
async fn compressed_bodies() {
    for (encoding, body) in compressed(CALENDAR).await {
        let head = format!("200 OK\nContent-Encoding: {encoding}");
        let server = Server::answering(&head, &body).await;
        assert_eq!(bytes_of(get(&server).await), CALENDAR, "{encoding}");
        let request = &server.requests()[0];
        let accepted = request.lines().find(|line| line.starts_with("accept-encoding: "));
        assert!(accepted.is_some_and(|accepted| accepted.contains(encoding)), "{request}");

        // A body that ends too early inside its compression, though HTTP is content.
        for length in [body.len() - 1, body.len() / 2] {
            let error = get(&Server::answering(&head, &body[..length]).await).await.unwrap_err();
            assert!(matches!(error.kind(), Kind::Interrupted(_)), "{encoding} {length}: {error}");
        }
    }
}

#[tokio::test]
async fn compression_is_taken_off_once_and_only_to_the_limit() {
    let mut bomb = CALENDAR.to_vec();
    bomb.resize(8 << 20, b'\n');
    for (encoding, body) in compressed(&bomb).await {
        assert!(body.len() < bomb.len() / 500, "{encoding}: {}", body.len());
        let head = format!("200 OK\nContent-Encoding: {encoding}");
        let error = get(&Server::answering(&head, &body).await).await.unwrap_err();
        assert_eq!(*error.kind(), Kind::TooLarge { limit: 1 << 20 }, "{encoding}");
    }
    let once = compressed(CALENDAR).await.swap_remove(0).1;
    let twice = compressed(&once).await.swap_remove(0).1;
    let server = Server::answering("200 OK\nContent-Encoding: gzip, gzip", &twice).await;
    let error = get(&server).await.unwrap_err();
    let looks_like = "data in the encoding “gzip, gzip”".to_owned();
    assert_eq!(*error.kind(), Kind::NotACalendar { looks_like });
}

#[tokio::test]
async fn time_is_limited_over_the_whole_attempt() {
    let limit = Duration::from_millis(300);
    let drop_by_drop = |bytes: &[u8]| -> Vec<Step> {
        let wait = Step::Wait(Duration::from_millis(50));
        bytes.iter().flat_map(|byte| [Step::Send(vec![*byte]), wait.clone()]).collect()
    };
    let mut slow_body = vec![raw("HTTP/1.1 200 OK\r\n\r\n")];
    slow_body.extend(drop_by_drop(CALENDAR));
    let slow_head = drop_by_drop(b"HTTP/1.1 200 OK\r\nContent-Type: text/calendar\r\n\r\n");
    let silence = vec![Step::Wait(Duration::from_secs(60))];
    // Each redirect is quick enough for itself.
    let redirects =
        vec![Step::Wait(Duration::from_millis(100)), answer("302 x\nLocation: /again", b"")];
    for script in [slow_body, slow_head, silence, redirects] {
        let server = Server::start(vec![script]).await;
        let mut feed = feed(server.url());
        feed.timeout = limit;
        let began = Instant::now();
        let error = fetch(&feed, &Validators::default()).await.unwrap_err();
        assert_eq!(*error.kind(), Kind::Timeout(limit));
        assert!(error.to_string().ends_with(": no complete answer within 0.3 s"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nBEGIN:VCALENDAR\r\n";
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\nBEGIN:VCALENDAR\r\n\r\n";
    let in_the_head = "HTTP/1.1 200 OK\r\nContent-Type: text/cal";
    let reset = vec![raw("HTTP/1.1 200 OK\r\n\r\nBEGIN:VCALENDAR\r\n"), Step::Reset];
    for script in [
        vec![raw(cut)],
        vec![raw(chunked)],
        vec![raw(in_the_head)],
        vec![raw("SSH-2.0-OpenSSH\r\n")],
        vec![],
        reset,
    ] {
        let error = get(&Server::start(vec![script]).await).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Interrupted(_)), "{error:?}");
    }
}

#[tokio::test]
async fn hosts_that_cannot_be_reached() {
    let closed = listener().await.local_addr().unwrap().port();
    // Speaks first, and no TLS.
    let plain = listener().await;
    let plain_port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = plain.accept().await.unwrap();
        socket.write_all(b"220 mail.example.edu ESMTP\r\n").await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
    });
    let table = [
        (format!("http://127.0.0.1:{closed}/{CANARY}"), "no connection: "),
        (format!("http://beadle.invalid/{CANARY}"), "beadle.invalid: host not found: "),
        (format!("https://127.0.0.1:{plain_port}/{CANARY}"), "no trusted connection: "),
    ];
    for (url, text) in table {
        let url = Url::parse(&url).unwrap();
        let error = fetch(&feed(url), &Validators::default()).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.ics");
    let mut feed = feed(Url::parse("http://unused.invalid").unwrap());
    feed.url = FeedUrl::File(path.clone());
    let none = Validators::default();

    let missing = fetch(&feed, &none).await.unwrap_err();
    assert!(missing.to_string().starts_with(&format!("{}: cannot be read: ", path.display())));

    std::fs::write(&path, CALENDAR).unwrap();
    let Fetched::Body { bytes, validators, .. } = fetch(&feed, &none).await.unwrap() else {
        panic!("not a body");
    };
    assert_eq!(bytes, CALENDAR);
    let again = fetch(&feed, &validators).await.unwrap();
    assert!(matches!(again, Fetched::NotModified { .. }), "{again:?}");

    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\r\n").unwrap();
    let appended = bytes_of(fetch(&feed, &validators).await);
    assert_eq!(appended.len(), CALENDAR.len() + 2);

    feed.max_bytes = appended.len() as u64;
    assert_eq!(bytes_of(fetch(&feed, &none).await), appended);
    feed.max_bytes -= 1;
    let error = fetch(&feed, &none).await.unwrap_err();
    assert_eq!(*error.kind(), Kind::TooLarge { limit: feed.max_bytes });

    std::fs::write(&path, "").unwrap();
    assert_eq!(*fetch(&feed, &none).await.unwrap_err().kind(), Kind::Empty);

    feed.url = FeedUrl::File(PathBuf::from(folder.path()));
    let error = fetch(&feed, &none).await.unwrap_err();
    assert_eq!(*error.kind(), Kind::File("not a regular file".to_owned()));
}

#[tokio::test]
async fn a_feed_leads_to_public_addresses_only() {
    let server = Server::answering("200 OK", b"BEGIN:VCALENDAR\r\n").await;
    let port = server.port;
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0x7f.1"] {
        let url = Url::parse(&format!("http://{host}:{port}/{CANARY}")).unwrap();
        let error = fetch(&Feed { private: false, ..feed(url) }, &Validators::default()).await;
        let error = error.unwrap_err();
        assert_eq!(*error.kind(), Kind::Forbidden(Class::Loopback), "{host}");
        let says = "leads to a loopback address, and has no `private = true`";
        assert!(error.to_string().ends_with(says), "{error}");
        assert!(error.hint().unwrap().contains("`private = true` under its [feed.NAME]"));
    }
    assert_eq!(server.requests(), [""; 0], "nothing was sent");
}

#[tokio::test]
async fn a_redirect_is_looked_at_like_the_address_itself() {
    let table = [
        ("http://169.254.169.254/latest/meta-data/", Class::Metadata),
        ("http://[::ffff:a9fe:a9fe]/", Class::Metadata),
        ("http://0.0.0.0/", Class::Unspecified),
        ("http://[ff02::1]/", Class::Multicast),
    ];
    for (target, class) in table {
        let server = Server::answering(&format!("302 x\nLocation: {target}"), b"").await;
        let error = fetch(&feed(server.url()), &Validators::default()).await.unwrap_err();
        assert_eq!(*error.kind(), Kind::Forbidden(class), "{target}");
        assert_eq!(error.hint(), Some("no feed may lead there"));
    }
}
