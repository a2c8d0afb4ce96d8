//! Any bytes in any pieces: the parts are the same as those of the whole at once.
//!
//! The first byte says how long the pieces are.
#![no_main]

use beadle::calendar::Health;
use beadle::calendar::scan::{RawLine, Scanner, Slice, Visitor};
use libfuzzer_sys::fuzz_target;

/// A part: its kind, its line, its text.
type Part = (&'static str, usize, Vec<u8>);

#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn slice(&mut self, kind: &'static str, slice: &Slice<'_>) {
        assert!(slice.line > 0);
        self.0.push((kind, slice.line, slice.bytes.to_vec()));
    }

    fn line(&mut self, kind: &'static str, line: RawLine<'_>) {
        self.0.push((kind, line.number, line.unfold().into_owned()));
    }
}

impl Visitor for Parts {
    fn is_known(&mut self, _: u128) -> bool {
        false
    }

    fn known(&mut self, _: Option<RawLine<'_>>) {
        unreachable!("nothing is known");
    }

    fn event(&mut self, slice: &Slice<'_>, sure: bool) -> Option<usize> {
        sure.then(|| {
            self.slice("event", slice);
            slice.bytes.iter().filter(|byte| **byte == b'\n').count()
        })
    }

    fn header(&mut self, line: RawLine<'_>) {
        self.line("header", line);
    }

    fn timezone(&mut self, slice: &Slice<'_>) {
        self.slice("timezone", slice);
    }

    fn cut_off(&mut self, uid: Option<RawLine<'_>>) {
        match uid {
            Some(uid) => self.line("cut off", uid),
            None => self.0.push(("cut off", 0, Vec::new())),
        }
    }
}

fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Part>, Health) {
    let mut scanner = Scanner::default();
    let mut parts = Parts::default();
    for piece in pieces {
        scanner.push(piece, &mut parts);
    }
    let (health, _) = scanner.finish(&mut parts);
    (parts.0, health)
}

fuzz_target!(|input: &[u8]| {
    let Some((size, body)) = input.split_first() else { return };
    let whole = scan(std::iter::once(body));
    assert_eq!(scan(body.chunks(1 + usize::from(*size))), whole);
    if whole.1.complete {
        assert!(whole.1.is_calendar);
        assert!(whole.0.iter().all(|(kind, ..)| *kind != "cut off"));
    }
});
