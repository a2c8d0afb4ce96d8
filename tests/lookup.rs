//! What the publisher's site is asked when its feed is silent, against an imitation of a WordPress
//! site with The Events Calendar on loopback.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use beadle::calendar::Zones;
use beadle::config::Config;
use beadle::fetch::Fetcher;
use beadle::notify::Registry;
use beadle::pipeline::Pipeline;
use beadle::store::{Access, Store};
use jiff::civil::date;
use jiff::{Timestamp, ToSpan};

/// One event of the site.
#[derive(Clone)]
struct Post {
    id: u64,
    title: &'static str,
    day: u32,
    saved: u32,
    listed: bool,
    /// `publish`, `trash`, or `none`: deleted for good.
    state: &'static str,
    /// `canceled`, `postponed` or nothing.
    status: &'static str,
    reason: &'static str,
    /// Left out of what `wp/v2` says, without a word.
    skipped: bool,
    /// Its page is at this port; else where the feed is.
    page: Option<u16>,
    /// Its page leads there.
    leads_to: Option<String>,
}

fn post(id: u64, title: &'static str, day: u32) -> Post {
    Post {
        id,
        title,
        day,
        saved: 0,
        listed: true,
        state: "publish",
        status: "",
        reason: "",
        skipped: false,
        page: None,
        leads_to: None,
    }
}

/// How `wp/v2` answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Speaks,
    /// Without the status, as sites with the classic editor may.
    HidesMeta,
    /// `[]`
    SaysNothing,
    Fails,
}

/// A site whose editor is the test.
struct Site {
    port: u16,
    posts: Arc<Mutex<Vec<Post>>>,
    requests: Arc<Mutex<Vec<String>>>,
    mood: Arc<Mutex<Mood>>,
}

impl Site {
    fn start(posts: Vec<Post>) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let site = Site {
            port,
            posts: Arc::new(Mutex::new(posts)),
            requests: Arc::default(),
            mood: Arc::new(Mutex::new(Mood::Speaks)),
        };
        let (posts, requests) = (site.posts.clone(), site.requests.clone());
        let mood = site.mood.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                while line.trim() != "" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                }
                requests.lock().unwrap().push(path.clone());
                let posts = posts.lock().unwrap().clone();
                let (status, kind, body) = answer(&path, &posts, port, *mood.lock().unwrap());
                let head = format!(
                    "HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(body.as_bytes()));
            }
        });
        site
    }

    fn edit(&self, id: u64, edit: impl Fn(&mut Post)) {
        let mut posts = self.posts.lock().unwrap();
        edit(posts.iter_mut().find(|post| post.id == id).unwrap());
    }

    fn feels(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self, part: &str) -> usize {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        requests.iter().filter(|path| path.contains(part)).count()
    }
}

fn answer(path: &str, posts: &[Post], port: u16, mood: Mood) -> (u16, &'static str, String) {
    let published = |id: u64| posts.iter().find(|post| post.id == id && post.state == "publish");
    if path.starts_with("/sub/events/?ical=1") {
        let mut body = String::from(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Example - ECPv6.16.3//NONSGML v1.0//EN\r\n",
        );
        let mut listed: Vec<&Post> =
            posts.iter().filter(|post| post.listed && post.state == "publish").collect();
        listed.sort_by_key(|post| post.day);
        // A site whose lists end, as they do.
        if let Some((_, from)) = path.split_once("tribe-bar-date=") {
            let from: jiff::civil::Date = from.parse().unwrap();
            listed.retain(|post| date(2026, 11, 30) + i64::from(post.day).days() >= from);
            if listed.is_empty() {
                return (200, "text/html", String::new());
            }
        }
        if path.contains("window") {
            listed.truncate(30);
        }
        for post in listed {
            let day = date(2026, 11, 30) + i64::from(post.day).days();
            let day = day.strftime("%Y%m%d");
            body += &format!(
                "BEGIN:VEVENT\r\nDTSTART;TZID=America/New_York:{day}T120000\r\n\
                 DTEND;TZID=America/New_York:{day}T130000\r\nDTSTAMP:20261123T061253\r\n\
                 LAST-MODIFIED:20261123T1100{:02}Z\r\nUID:{}-1796212800-1796217300@127.0.0.1\r\n\
                 SUMMARY:{}\r\nURL:http://127.0.0.1:{}/sub/event/{}/\r\nEND:VEVENT\r\n",
                post.saved,
                post.id,
                post.title,
                post.page.unwrap_or(port),
                post.id
            );
        }
        return (200, "text/calendar", body + "END:VCALENDAR");
    }
    if let Some(query) = path.strip_prefix("/sub/wp-json/wp/v2/tribe_events?include=") {
        match mood {
            Mood::Fails => return (500, "text/html", "broken".into()),
            Mood::SaysNothing => return (200, "application/json", "[]".into()),
            Mood::Speaks | Mood::HidesMeta => {}
        }
        let ids = query.split('&').next().unwrap().replace("%2C", ",");
        let all: Vec<String> = ids
            .split(',')
            .filter_map(|id| published(id.parse().unwrap()).filter(|post| !post.skipped))
            .map(|post| match mood == Mood::Speaks {
                true => format!(
                    r#"{{"id":{},"meta":{{"_tribe_events_status":"{}","_tribe_events_status_reason":"{}"}}}}"#,
                    post.id, post.status, post.reason
                ),
                false => format!(r#"{{"id":{},"meta":[]}}"#, post.id),
            })
            .collect();
        return (200, "application/json", format!("[{}]", all.join(",")));
    }
    if let Some(id) = path.strip_prefix("/sub/wp-json/tribe/events/v1/events/") {
        return match posts.iter().find(|post| post.id.to_string() == id) {
            Some(post) if post.state == "publish" => (200, "application/json", "{}".into()),
            Some(post) if post.state == "trash" => (403, "application/json", "{}".into()),
            _ => (400, "application/json", "{}".into()),
        };
    }
    if let Some(id) = path.strip_prefix("/sub/event/")
        && let Some(post) = published(id.trim_end_matches('/').parse().unwrap())
    {
        if let Some(target) = &post.leads_to {
            let head = format!("text/html\r\nLocation: {target}");
            return (302, head.leak(), String::new());
        }
        let status = match post.status {
            "canceled" => "EventCancelled",
            "postponed" => "EventPostponed",
            _ => "EventScheduled",
        };
        let page = format!(
            r#"<meta property="og:image" content="../../{}.png"><script type="application/ld+json">[{{"@type":"Event","eventStatus":"https://schema.org/{status}"}}]</script>"#,
            post.id
        );
        return (200, "text/html", page);
    }
    (404, "text/html", "not here".into())
}

struct Followed {
    site: Site,
    pipeline: Pipeline,
    now: Timestamp,
    _folder: tempfile::TempDir,
}

fn three() -> Vec<Post> {
    vec![post(11, "Optics", 2), post(12, "Logic", 3), post(13, "Waves", 4)]
}

async fn followed(extra: &str) -> Followed {
    follow(Site::start(three()), extra).await
}

async fn follow(site: Site, extra: &str) -> Followed {
    follow_at(site, "?ical=1", extra).await
}

async fn follow_at(site: Site, query: &str, extra: &str) -> Followed {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
timezone = "America/New_York"
[feed.site]
url = "http://127.0.0.1:{}/sub/events/{query}"
private = true
{extra}
[[watch]]
name = "all"
feeds = ["site"]
to = ["screen"]
[receiver.screen]
terminal = true
"#,
        site.port
    );
    let config = Config::parse(&config, &folder.path().join("config.toml")).unwrap();
    let store = Store::open(&config.state, Access::Exclusive).await.unwrap();
    let fetcher = Fetcher::new().unwrap();
    let pipeline = Pipeline::new(config, Zones::default(), store, fetcher, Registry::default());
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let mut followed = Followed { site, pipeline, now, _folder: folder };
    assert_eq!(followed.poll().await, [""; 0], "a first reading tells nothing");
    followed.site.asked("");
    followed
}

impl Followed {
    /// One poll, ten minutes after the last: what is told, as `reason title`.
    async fn poll(&mut self) -> Vec<String> {
        let feed = self.pipeline.config.feeds["site"].clone();
        let polled = self.pipeline.poll(&feed, self.now).await.unwrap();
        self.now += 10.minutes();
        let told: BTreeMap<_, _> = polled
            .result
            .unwrap()
            .changes
            .iter()
            .map(|c| {
                let judged = c.after.judged.as_ref();
                let why = judged.and_then(|j| j.verdict.reason.clone()).unwrap_or_default();
                (c.key.clone(), format!("{:?} {} {why}", c.kind, c.after.summary).trim().to_owned())
            })
            .collect();
        told.into_values().collect()
    }

    /// The picture of an event, by its title.
    async fn picture(&self, title: &str) -> Option<String> {
        let to = self.now + (24 * 30).hours();
        let upcoming = self.pipeline.upcoming(self.now, to).await.unwrap();
        let one = upcoming.into_iter().find(|one| one.occurrence.event.summary == title).unwrap();
        one.occurrence.event.picture().map(str::to_owned)
    }

    async fn polls(&mut self, n: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..n {
            all.extend(self.poll().await);
        }
        all
    }
}

fn cancel(post: &mut Post) {
    (post.status, post.reason) = ("canceled", "The speaker is <b>ill</b>");
    post.saved += 1;
}

#[tokio::test]
async fn a_cancelled_event_is_told_with_its_reason_and_back_on() {
    let mut f = followed("").await;
    f.site.edit(12, cancel);
    assert_eq!(f.polls(3).await, ["Cancelled Logic The speaker is ill"]);
    f.site.edit(12, |post| post.status = "postponed");
    assert_eq!(f.polls(3).await, ["Postponed Logic The speaker is ill"]);
    f.site.edit(12, |post| post.status = "");
    assert_eq!(f.polls(3).await, ["Reinstated Logic"]);
}

#[tokio::test]
async fn a_status_set_without_saving_the_post_is_found_in_one_request_a_poll() {
    let mut f = followed("").await;
    f.site.edit(13, |post| post.status = "canceled");
    assert_eq!(f.polls(3).await, ["Cancelled Waves"]);
    assert_eq!(f.site.asked("/wp-json/"), 3);
    assert_eq!(f.polls(2).await, [""; 0]);
    // Other edits of an event that is off are no news of its status.
    f.site.edit(13, |post| post.saved += 1);
    assert_eq!(f.polls(3).await, [""; 0]);
}

#[tokio::test]
async fn a_site_that_hides_the_status_is_asked_for_the_page_of_what_was_saved() {
    let mut f = followed("").await;
    f.site.feels(Mood::HidesMeta);
    f.site.edit(12, cancel);
    assert_eq!(f.polls(3).await, ["Cancelled Logic"]);
    assert_eq!(f.site.asked("/sub/event/"), 1);
    assert_eq!(f.polls(3).await, [""; 0]);
}

#[tokio::test]
async fn a_disappearance_is_settled_before_it_is_told() {
    let mut f = followed("").await;
    f.site.edit(11, |post| post.state = "trash");
    assert_eq!(f.poll().await, [""; 0]);
    assert_eq!(f.poll().await, ["Missing Optics"]);
    f.site.edit(11, |post| post.state = "publish");
    assert_eq!(f.polls(2).await, ["Reinstated Optics"]);

    f.site.edit(12, |post| post.state = "none");
    assert_eq!(f.polls(2).await, ["Missing Logic"]);

    // Hidden from the list, but still to take place.
    f.site.edit(13, |post| post.listed = false);
    assert_eq!(f.polls(8).await, [""; 0]);
}

#[tokio::test]
async fn a_site_that_has_lost_everything_proves_nothing() {
    let mut f = followed("").await;
    for id in [11, 12, 13] {
        f.site.edit(id, |post| post.state = "none");
    }
    assert_eq!(f.polls(12).await, [""; 0]);
    for id in [11, 12, 13] {
        f.site.edit(id, |post| post.state = "publish");
    }
    assert_eq!(f.polls(3).await, [""; 0]);
}

#[tokio::test]
async fn a_cancelled_event_that_leaves_the_list_is_told_as_cancelled() {
    let mut f = followed("").await;
    f.site.edit(11, |post| {
        cancel(post);
        post.listed = false;
    });
    assert_eq!(f.polls(4).await, ["Cancelled Optics The speaker is ill"]);
}

#[tokio::test]
async fn nothing_is_asked_where_the_configuration_says_so() {
    let mut f = followed("lookups = false").await;
    f.site.edit(12, cancel);
    assert_eq!(f.polls(3).await, [""; 0]);
    f.site.edit(11, |post| post.listed = false);
    assert_eq!(f.polls(5).await, ["Missing Optics"]);
    assert_eq!(f.site.asked("/wp-json/"), 0);
}

// ---- pictures ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_new_event_without_a_picture_has_that_of_its_page() {
    let mut f = followed("").await;
    f.site.posts.lock().unwrap().push(post(14, "Tides", 5));
    assert_eq!(f.polls(2).await, ["New Tides"]);
    assert_eq!(f.site.asked("/sub/event/"), 1);
    let picture = format!("http://127.0.0.1:{}/sub/14.png", f.site.port);
    assert_eq!(f.picture("Tides").await, Some(picture.clone()));

    // It stays with the event, and is not asked for again.
    f.site.edit(14, |post| (post.title, post.saved) = ("Tides and turbines", 1));
    assert_eq!(f.polls(3).await, ["Updated Tides and turbines"]);
    assert_eq!(f.picture("Tides and turbines").await, Some(picture));

    // What is told as a list has none.
    f.site.asked("");
    let titles = ["A", "B", "C", "D", "E", "F", "G"];
    let more = titles.iter().zip(20..).map(|(title, id)| post(id, title, 6));
    f.site.posts.lock().unwrap().extend(more);
    assert_eq!(f.polls(2).await.len(), 7);
    assert!(f.site.asked("/sub/event/") <= 5);
}

#[tokio::test]
async fn pages_elsewhere_are_asked_only_where_the_configuration_names_their_host() {
    let other = Site::start(vec![post(14, "Ebb", 5)]);
    let hosts = format!("lookups = [\"127.0.0.1:{}\"]", other.port);
    for (extra, asked) in [("", 0), (hosts.as_str(), 1)] {
        let mut f = followed(extra).await;
        f.site.posts.lock().unwrap().push(Post { page: Some(other.port), ..post(14, "Ebb", 5) });
        f.polls(2).await;
        assert_eq!(other.asked("/sub/event/"), asked, "{extra}");
    }
}

#[tokio::test]
async fn a_page_leads_only_where_the_feed_may_ask() {
    let other = Site::start(vec![post(14, "Ebb", 5)]);
    let port = other.port;
    let page = format!("http://127.0.0.1:{port}/sub/event/14/");
    let named = format!("http://localhost:{port}/sub/event/14/");
    let metadata = "http://169.254.169.254/sub/event/14/".to_owned();
    let both = format!("lookups = [\"127.0.0.1:{port}\", \"169.254.169.254\"]");
    for (extra, target, asked) in [
        ("", &page, 0),
        ("", &named, 0),
        ("", &metadata, 0),
        // Named, and all the same where no feed may lead.
        (&both, &metadata, 0),
        (&both, &page, 1),
        (&both, &named, 0),
    ] {
        let mut f = followed(extra).await;
        let leading = Post { leads_to: Some(target.clone()), ..post(14, "Ebb", 5) };
        f.site.posts.lock().unwrap().push(leading);
        assert_eq!(f.polls(2).await, ["New Ebb"], "{target}");
        assert_eq!(f.site.asked("/sub/event/14"), 1, "{target}");
        assert_eq!(other.asked(""), asked, "{extra} {target}");
        assert_eq!(f.picture("Ebb").await.is_some(), asked == 1, "{extra} {target}");
    }
}

// ---- what the site does not say ----------------------------------------------------------------

#[tokio::test]
async fn what_the_site_leaves_out_stays_as_it_was() {
    let mut f = followed("").await;
    f.site.edit(12, cancel);
    assert_eq!(f.polls(3).await, ["Cancelled Logic The speaker is ill"]);
    f.site.edit(12, |post| post.skipped = true);
    assert_eq!(f.polls(3).await, [""; 0], "its post alone is left out");
    // Its text changes, and the page says what it is.
    f.site.edit(12, |post| post.title = "Logic and sets");
    assert_eq!(f.polls(3).await, ["Updated Logic and sets The speaker is ill"]);
    f.site.edit(12, |post| post.skipped = false);
    for mood in [Mood::SaysNothing, Mood::Fails, Mood::HidesMeta, Mood::Speaks] {
        f.site.feels(mood);
        assert_eq!(f.polls(3).await, [""; 0]);
    }
    f.site.feels(Mood::SaysNothing);
    f.site.edit(12, |post| post.listed = false);
    assert_eq!(f.polls(3).await, [""; 0]);
    f.site.edit(12, |post| post.listed = true);
    assert_eq!(
        f.polls(3).await,
        [""; 0],
        "it left the list and came back, and is off all the time"
    );
    f.site.feels(Mood::Speaks);
    f.site.edit(12, |post| post.status = "");
    assert_eq!(f.polls(3).await, ["Reinstated Logic and sets"]);
}

#[tokio::test]
async fn what_was_off_from_the_beginning_is_not_told() {
    // Enough to be kept on disk while they are read.
    for count in [3, 1200] {
        let mut posts: Vec<Post> =
            (0..count).map(|n| post(100 + n, "Talk", 2 + n as u32)).collect();
        cancel(posts.last_mut().unwrap());
        let mut f = follow(Site::start(posts), "").await;
        assert_eq!(f.polls(3).await, [""; 0], "{count}");
        f.site.edit(99 + count, |post| post.status = "");
        f.site.edit(100, cancel);
        let told = ["Cancelled Talk The speaker is ill", "Reinstated Talk"];
        assert_eq!(f.polls(15).await, told[..], "{count}");
    }
}

#[tokio::test]
async fn a_site_that_could_not_be_asked_at_first_is_believed_later() {
    let mut posts = three();
    cancel(&mut posts[1]);
    let site = Site::start(posts);
    site.feels(Mood::Fails);
    let mut f = follow(site, "").await;
    f.site.feels(Mood::Speaks);
    assert_eq!(f.polls(3).await, [""; 0], "it was off when the feed was first read");
    f.site.edit(11, cancel);
    assert_eq!(f.polls(3).await, ["Cancelled Optics The speaker is ill"]);
}

#[tokio::test]
async fn all_events_of_a_long_feed_are_asked_about_in_turn() {
    let posts = (0..800).map(|n| post(1000 + n, "Talk", 2 + n as u32)).collect();
    let mut f = follow(Site::start(posts), "").await;
    for id in [1000, 1350, 1501, 1650, 1799] {
        // Nothing in the feed shows it.
        f.site.edit(id, |post| post.status = "canceled");
    }
    f.site.asked("");
    let mut told = 0;
    for _ in 0..10 {
        told += f.poll().await.len();
        assert!(f.site.asked("/wp-json/") <= 3);
    }
    assert_eq!(told, 5);
}

#[tokio::test]
async fn a_window_is_walked_page_by_page() {
    // Three events a day: 30 fill ten days.
    let posts = |count: u64| (0..count).map(|n| post(100 + n, "Talk", 1 + n as u32 / 3)).collect();
    for (count, pages, read, requests) in
        [(10, 4, 10, 1), (30, 4, 30, 2), (75, 1, 30, 1), (75, 2, 57, 2), (75, 9, 75, 3)]
    {
        let extra = format!("pages = {pages}\nlookups = false");
        let mut f = follow_at(Site::start(posts(count)), "?ical=1&window", &extra).await;
        assert_eq!(f.polls(2).await, [""; 0]);
        let case = format!("{count} events, {pages} pages");
        assert_eq!(f.site.asked("tribe-bar-date") + 2, requests * 2, "{case}");
        assert_eq!(f.pipeline.store.event_counts("site").await.unwrap().0, read, "{case}");

        // The last one that is in reach is news, and another behind it is not gone for that.
        let title = "New talk";
        f.site.posts.lock().unwrap().push(Post { title, ..post(99, title, 1) });
        assert_eq!(f.polls(4).await, ["New New talk"], "{case}");
        f.site.edit(100 + read - 5, |post| post.title = "Renamed");
        assert_eq!(f.polls(3).await, ["Updated Renamed"], "{case}");
    }
}

#[tokio::test]
async fn a_day_with_more_events_than_a_page_ends_no_walk() {
    for lookups in [true, false] {
        let posts = (0..75).map(|n| post(100 + n, "Talk", 1 + n as u32 / 3)).collect();
        let extra = format!("pages = 9\nlookups = {lookups}");
        let mut f = follow_at(Site::start(posts), "?ical=1&window", &extra).await;
        // More than a page on one day: the walk goes on to the next, and says so once.
        for id in 110..160 {
            f.site.edit(id, |post| post.day = 9);
        }
        let feed = f.pipeline.config.feeds["site"].clone();
        let news = f.pipeline.poll(&feed, f.now).await.unwrap().result.unwrap();
        let warnings: Vec<String> = news.warnings.iter().map(ToString::to_string).collect();
        let day = "there are more events on 2026-12-09 than a page holds; \
                   some of that day may be missing";
        assert_eq!(warnings, [day]);
        f.now += 10.minutes();
        let again = f.pipeline.poll(&feed, f.now).await.unwrap().result.unwrap();
        assert_eq!(again.warnings, []);

        // What is out of reach is not gone, and what comes after that day is read.
        assert!(!f.polls(6).await.iter().any(|told| told.starts_with("Missing")));
        f.site.edit(170, |post| post.title = "Renamed");
        assert_eq!(f.polls(3).await, ["Updated Renamed"]);
    }
}
