//! Stand-ins on loopback for what beadle talks to: they record what they are told and answer as
//! scripted. Ports are free ones; each stand-in runs on threads of its own, so that a test may
//! block, and ends with its value.

// Each test binary uses the part it needs.
#![allow(dead_code)]
#![allow(clippy::unwrap_used)]
// What was skipped, and how much was judged.
#![allow(clippy::print_stderr)]

pub mod discord;
pub mod feed;
pub mod gate;
pub mod gateway;
pub mod guild;
pub mod listen;
pub mod openapi;
pub mod smtp;
pub mod wire;
pub mod world;
