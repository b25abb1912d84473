//! Whole processes in network namespaces.
//!
//! A test says what it wants in a [`Shape`], gets a [`Lab`] by [`in_lab`], starts `zsync-control` in its router by
//! [`Control::start`], sends traffic from its client to its server, and looks at what came and at what zsync counted.
//! When it fails, the end of every log is in its output; when it ends in any way, nothing of it is left behind.
//!
//! ```text
//!   namespace client            namespace router             namespace server
//!   ┌───────────────┐          ┌─────────────────┐          ┌───────────────┐
//!   │ eth0 ─────────┼── veth ──┼─ eth1     eth2 ─┼── veth ──┼───────── eth0 │
//!   │ 10.1.0.2      │          │ .1    zsync  .1 │          │      10.2.0.2 │
//!   │ fd01::2       │          │ ::1         ::1 │          │       fd02::2 │
//!   └───────────────┘          └─────────────────┘          └───────────────┘
//! ```
//!
//! Keeps true: one lab at a time on a machine (a file lock), so that timings are not each other's noise; names carry the
//! process id, so that what a killed test left is known and removed by the next.

pub mod binary;
pub mod capture;
pub mod config;
pub mod control;
pub mod counts;
pub mod demo;
pub mod flow;
pub mod http;
pub mod iperf;
pub mod lab;
pub mod netns;
pub mod ping;
pub mod process;
pub mod raw;
mod reaper;
pub mod report;
pub mod wireguard;

pub use control::Control;
pub use flow::{Flow, FlowPlan};
pub use lab::{Lab, Shape, in_lab};
pub use netns::Namespace;
pub use ping::{Ping, ping};
pub use report::Report;

use std::time::{Duration, Instant};

/// Asks again every few milliseconds until `look` finds something.
///
/// # Errors
/// What was waited for, after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(start.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tests that hold for ports that are devices of the router's own: each of these functions is one, by the devices `tun` and `tap`.
#[macro_export]
macro_rules! by_own_device {
    ($($test:ident),+ $(,)?) => {
        mod tun {
            $(#[test] fn $test() { super::$test("tun"); })+
        }
        mod tap {
            $(#[test] fn $test() { super::$test("tap"); })+
        }
    };
}

/// Tests that hold whatever takes packets from a netdev: each of these functions is one, by the devices `xdp` and `uring-packet`, which it gets
/// the name of.
#[macro_export]
macro_rules! by_each_device {
    ($($test:ident),+ $(,)?) => {
        mod xdp {
            $(#[test] fn $test() { super::$test("xdp"); })+
        }
        mod uring_packet {
            $(#[test] fn $test() { super::$test("uring-packet"); })+
        }
    };
}
