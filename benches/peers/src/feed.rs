//! Writes a feed: `feed <file> <events> <stamp> [how many times longer its descriptions are]`.

#![allow(dead_code)]

#[path = "../../support/mod.rs"]
mod support;

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<usize>().ok());
    let stamp = number(2).unwrap_or(1) as u32;
    let (events, longer) = (number(1).unwrap_or(10_000), number(3).unwrap_or(1));
    let feed = support::feed_of(events, support::Dialect::Folded, stamp, None, longer);
    std::fs::write(&args[0], feed)
}
