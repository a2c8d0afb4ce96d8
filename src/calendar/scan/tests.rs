use proptest::prelude::*;

use super::*;

/// What was found, in a form of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Scan {
    events: Vec<(usize, Vec<u8>, u128)>,
    timezones: Vec<(usize, Vec<u8>)>,
    header: Vec<(usize, Vec<u8>)>,
    cut_off: Vec<Option<Vec<u8>>>,
    stamps: Vec<Option<Vec<u8>>>,
    health: Health,
    warnings: Vec<Warning>,
    /// Hashes of events to be taken for known.
    known: Vec<u128>,
    met: usize,
}

impl Visitor for Scan {
    fn is_known(&mut self, hash: u128) -> bool {
        self.known.contains(&hash)
    }

    fn known(&mut self, stamp: Option<RawLine<'_>>) {
        self.met += 1;
        self.stamps.push(stamp.map(|line| line.bytes.to_vec()));
    }

    fn event(&mut self, slice: &Slice<'_>, sure: bool) -> Option<usize> {
        if !sure && !is_one(slice.bytes) {
            return None;
        }
        self.events.push((slice.line, slice.bytes.to_vec(), slice.hash));
        self.stamps.push(slice.stamp.map(|line| line.bytes.to_vec()));
        Some(memchr_iter(b'\n', slice.bytes).count())
    }

    fn header(&mut self, line: RawLine<'_>) {
        self.header.push((line.number, line.bytes.to_vec()));
    }

    fn timezone(&mut self, slice: &Slice<'_>) {
        self.timezones.push((slice.line, slice.bytes.to_vec()));
    }

    fn cut_off(&mut self, uid: Option<RawLine<'_>>) {
        self.cut_off.push(uid.map(|line| line.bytes.to_vec()));
    }
}

fn is_one(bytes: &[u8]) -> bool {
    let mut inner = Vec::new();
    let brackets: Vec<_> = Lines::new(bytes, 1).map(|line| line.bracket()).collect();
    let [Bracket::Begin(Component::Event), within @ .., Bracket::End(Component::Event)] =
        &brackets[..]
    else {
        return false;
    };
    within.iter().all(|bracket| match bracket {
        Bracket::None => true,
        Bracket::Begin(Component::Other(name)) => {
            inner.push(name);
            true
        }
        Bracket::End(Component::Other(name)) => inner.pop() == Some(name),
        _ => false,
    }) && inner.is_empty()
}

fn scan_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, known: &[u128]) -> Scan {
    let mut scan = Scan { known: known.to_vec(), ..Scan::default() };
    let mut scanner = Scanner::default();
    pieces.into_iter().for_each(|piece| scanner.push(piece, &mut scan));
    (scan.health, scan.warnings) = scanner.finish(&mut scan);
    scan.known.clear();
    scan
}

fn without_lines(mut scan: Scan) -> Scan {
    scan.events.iter_mut().for_each(|(line, ..)| *line = 0);
    scan.timezones.iter_mut().chain(&mut scan.header).for_each(|(line, _)| *line = 0);
    for warning in &mut scan.warnings {
        warning.line = 0;
        warning.message.retain(|c| !c.is_ascii_digit());
        warning.message = warning.message.replace(" before line ,", "");
    }
    scan
}

fn scan(body: &[u8]) -> Scan {
    scan_pieces([body], &[])
}

#[test]
fn lines_keep_their_numbers_and_lose_their_folds() {
    let text = b"\r\nA:1\r\n 2\r\n\t3\rB:1\n\n\nC:1\r\n\r\n 2";
    let lines: Vec<_> = Lines::new(text, 1).map(|l| (l.number, l.unfold().into_owned())).collect();
    assert_eq!(lines, [(2, b"A:123".to_vec()), (4, b"B:1".to_vec()), (7, b"C:12".to_vec())]);
    assert_eq!(Lines::new(b"", 1).count(), 0);
    assert_eq!(Lines::new(b"\r\n\r\n", 1).count(), 0);
}

/// `{` and `}` stand for BEGIN and END: `{VCALENDAR`.
fn body(short: &str) -> Vec<u8> {
    let line = |word: &str| match word.split_at_checked(1) {
        Some(("{", name)) => format!("BEGIN:{name}\r\n"),
        Some(("}", name)) => format!("END:{name}\r\n"),
        _ => format!("{word}\r\n"),
    };
    short.split(' ').map(line).collect::<String>().into_bytes()
}

#[test]
fn structure_and_health() {
    let whole = "{VCALENDAR {VEVENT UID:1 }VEVENT }VCALENDAR";
    for (text, is_calendar, complete, events, warnings) in [
        (whole.to_owned(), true, true, 1, 0),
        (format!("{whole} {whole}"), true, true, 2, 0),
        ("{vcalendar {vevent }vevent }vcalendar".to_owned(), true, true, 1, 0),
        ("{VCALENDAR }VCALENDAR".to_owned(), true, true, 0, 0),
        ("{VCALENDAR {X-A {X-B }X-B }X-A {VEVENT }VEVENT }VCALENDAR".to_owned(), true, true, 1, 0),
        (
            "{VCALENDAR {VEVENT {VALARM UID:2 }VALARM }VEVENT }VCALENDAR".to_owned(),
            true,
            true,
            1,
            0,
        ),
        ("{VCALENDAR {VEVENT }VEVENT".to_owned(), true, false, 1, 1),
        ("{VCALENDAR {VEVENT".to_owned(), true, false, 0, 1),
        ("{VCALENDAR {VEVENT }VCALENDAR".to_owned(), true, false, 0, 1),
        ("{VCALENDAR {VEVENT {VEVENT }VEVENT }VCALENDAR".to_owned(), true, false, 1, 1),
        ("{VCALENDAR {VEVENT {VALARM }VEVENT }VCALENDAR".to_owned(), true, false, 1, 1),
        ("{VCALENDAR {VEVENT }VEVENT }VEVENT }VCALENDAR".to_owned(), true, true, 1, 1),
        (format!("{whole} <html>"), true, false, 1, 0),
        (format!("{whole} </html>"), true, true, 1, 0),
        (format!("<html> {whole}"), true, true, 1, 0),
        ("<pre>BEGIN:VCALENDAR {VEVENT }VEVENT }VCALENDAR</pre>".to_owned(), true, true, 1, 0),
        (format!("{whole} {{VEVENT UID:2 }}VEVENT"), true, false, 2, 2),
        (format!("{{VCALENDAR {whole}"), true, false, 1, 1),
        ("{VEVENT }VEVENT".to_owned(), false, false, 0, 0),
        ("<html></html>".to_owned(), false, false, 0, 0),
        (String::new(), false, false, 0, 0),
    ] {
        let body = body(&text);
        let scan = scan(&body);
        let found = (scan.health.is_calendar, scan.health.complete, scan.events.len());
        assert_eq!(found, (is_calendar, complete, events), "{text}");
        assert_eq!(scan.warnings.len(), warnings, "{text}: {:?}", scan.warnings);
    }
}

#[test]
fn a_feed_cut_anywhere_is_not_complete() {
    let body = body("{VCALENDAR PRODID:x {VEVENT UID:1 DTSTART:20261202 }VEVENT }VCALENDAR");
    let end = body.len() - "\r\n".len();
    for cut in 0..end {
        assert!(!scan(&body[..cut]).health.complete, "{cut}");
    }
    assert!(scan(&body[..end]).health.complete);
}

#[test]
fn the_stamp_does_not_count_and_all_else_does() {
    let hash = |event: &str| {
        let body = body(&format!("{{VCALENDAR {{VEVENT {event} }}VEVENT }}VCALENDAR"));
        scan(&body).events[0].2
    };
    let base = hash("UID:1 DTSTAMP:1 SUMMARY:a");
    for (event, same) in [
        ("UID:1 DTSTAMP:2 SUMMARY:a", true),
        ("UID:1 dtstamp;X=1:2 SUMMARY:a", true),
        ("UID:1 dtstamp:2 SUMMARY:a", true),
        ("DTSTAMP:1 UID:1 SUMMARY:a", false),
        ("UID:1 DTSTAMP:1 SUMMARY:a DTSTAMP:1", false),
        ("UID:1 SUMMARY:a", false),
        ("UID:1 DTSTAMP:1 SUMMARY:b", false),
        ("UID:1 DTSTAMPS:1 SUMMARY:a", false),
        ("UID:1 {VALARM DTSTAMP:1 }VALARM SUMMARY:a", false),
    ] {
        assert_eq!(hash(event) == base, same, "{event}");
    }
    let folded =
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTAMP:2026\n 1202\nUID:1\nEND:VEVENT\nEND:VCALENDAR";
    let plain = b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTAMP:1\nUID:1\nEND:VEVENT\nEND:VCALENDAR";
    assert_eq!(scan(folded).events[0].2, scan(plain).events[0].2);
}

#[test]
fn warnings_about_structure_are_few() {
    let body = body(&format!("{{VCALENDAR {} }}VCALENDAR", ["}VEVENT"; 5_000].join(" ")));
    assert_eq!(scan(&body).warnings.len(), WARNINGS);
}

#[test]
fn an_event_that_is_cut_off_is_known_by_its_uid() {
    for before in ["", EVENT, "BEGIN:VEVENT\n", "X:1\n"] {
        let body = format!("BEGIN:VCALENDAR\n{before}BEGIN:VEVENT\nUID:12\nSUMMARY:cu");
        let scan = scan(body.as_bytes());
        assert_eq!(scan.cut_off.last().unwrap().as_deref(), Some(&b"UID:12"[..]), "{before}");
    }
}

#[test]
fn what_is_too_large_costs_itself_only() {
    let long = "x".repeat(LARGEST + 1);
    let many = format!("X:{}\n", "y".repeat(1000)).repeat(LARGEST / 1000 + 10);
    let deep = "BEGIN:A\n".repeat(DEPTH + 10);
    for (inside, kept) in [
        (format!("UID:2\nX:{long}\n"), vec![Some(b"UID:2".to_vec())]),
        (format!("X:{long}\n {long}\nUID:2\n"), vec![None]),
        (format!("{many}UID:2\n"), vec![None]),
        (format!("UID:2\n{many}"), vec![Some(b"UID:2".to_vec())]),
        (deep, vec![]),
    ] {
        let body = format!(
            "BEGIN:VCALENDAR\n{EVENT}BEGIN:VEVENT\n{inside}END:VEVENT\n{EVENT}END:VCALENDAR\n"
        );
        let scan = scan(body.as_bytes());
        assert_eq!(scan.cut_off, kept);
        assert_eq!(scan.events.len(), 3 - kept.len());
        assert!(scan.warnings.len() <= 12, "{:?}", scan.warnings);
        assert_eq!(scan.health.complete, !kept.is_empty());
        let pieces = scan_pieces(body.as_bytes().chunks(65_537), &[]);
        assert!(scan == pieces, "{:?} {:?}", scan.warnings, pieces.warnings);
    }
}

const EVENT: &str = "BEGIN:VEVENT\nDTSTAMP:20261123T120000Z\nUID:1\nEND:VEVENT\n";

/// Text in which chance meets every branch.
fn feed() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "BEGIN:VCALENDAR",
        "END:VCALENDAR",
        "BEGIN:VEVENT",
        "END:VEVENT",
        "end:vevent",
        "Begin:Vevent",
        "BEGIN:VTIMEZONE",
        "END:VTIMEZONE",
        "BEGIN:VALARM",
        "END:VALARM",
        "BEGIN:VEVENT\nDTSTAMP:1\nUID:1\nEND:VEVENT\n",
        "BEGIN:VEVENT\r\nUID:1\r\nDTSTAMP;X=1:1\r\n 2\r\nA:1\r\nEND:VEVENT\r\n",
        "DTSTAMP:2",
        "dtstamp:3",
        "DTSTAMPS:1",
        "UID:1",
        "SUMMARY:a",
        "\u{feff}",
        "END:VEVENTS",
        "END:VEVENT ",
        "",
    ]);
    let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n", "\r\r\n", "\n ", "\r\n\t", ""]);
    prop::collection::vec((word, prop_oneof![4 => Just("\n"), 1 => end]), 0..40).prop_map(|all| {
        let body: String = all.into_iter().flat_map(|(word, end)| [word, end]).collect();
        format!("BEGIN:VCALENDAR\n{body}").into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn pieces_do_not_matter(body in feed(), cuts in prop::collection::vec(1..40_usize, 1..20)) {
        let whole = scan(&body);
        let mut ends = cuts.iter().cycle();
        let mut rest = &body[..];
        let pieces = std::iter::from_fn(|| {
            let (piece, after) = rest.split_at(rest.len().min(*ends.next()?));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(scan_pieces(pieces, &[]), whole);
    }

    /// Lower case keeps the scanner from leaping.
    #[test]
    fn leaps_find_what_care_finds(body in feed(), is_known in any::<u64>()) {
        let text = String::from_utf8(body).unwrap();
        let careful = text.replace("BEGIN:VEVENT", "begin:VEVENT");
        let (leaping, careful) = (scan(text.as_bytes()), scan(careful.as_bytes()));
        let upper = |scan: &Scan| {
            let mut scan = scan.clone();
            for (_, bytes, hash) in &mut scan.events {
                (*bytes, *hash) = (bytes.to_ascii_uppercase(), 0);
            }
            let stamps = scan.stamps.iter_mut().chain(&mut scan.cut_off).flatten();
            let lines = scan.header.iter_mut().chain(&mut scan.timezones);
            for bytes in stamps.chain(lines.map(|(_, bytes)| bytes)) {
                bytes.make_ascii_uppercase();
            }
            for name in scan.warnings.iter_mut().filter_map(|warning| warning.event.as_mut()) {
                name.make_ascii_uppercase();
            }
            scan
        };
        prop_assert_eq!(upper(&leaping), upper(&careful));

        // Nor does it matter what is known already.
        let hashes = leaping.events.iter().map(|(.., hash)| *hash);
        let known: Vec<u128> = hashes.filter(|hash| (is_known >> (hash & 63)) & 1 == 1).collect();
        let met = scan_pieces([text.as_bytes()], &known);
        let mut expected = leaping.clone();
        expected.events.retain(|(.., hash)| !known.contains(hash));
        expected.met = leaping.events.len() - expected.events.len();
        prop_assert_eq!(without_lines(met), without_lines(expected));
    }
}
