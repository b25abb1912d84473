//! What the tests share: a network namespace of the test's own thread, and packets with a sequence number.
#![allow(dead_code, reason = "no test file uses all of it")]
#![allow(unsafe_code, reason = "unshare")]

use std::{process::Command, thread};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Marks a packet as a test's.
pub const MAGIC: [u8; 8] = *b"zsyncxsk";
pub const MAGIC_AT: usize = 42;
pub const SEQUENCE_AT: usize = 50;
pub const SIZE: usize = 60;

/// Runs `test` in a network namespace that ends with it, also when it panics, and takes its devices along: veth pairs
/// (`va`, `vb`) and (`vc`, `vd`), all up. Without root, says so and skips; in CI that is a failure.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let outcome = thread::spawn(|| {
        // SAFETY: the flag moves neither this thread's memory nor its descriptors.
        if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot make a network namespace: {error}");
            eprintln!("SKIPPED: cannot make a network namespace: {error}");
            return;
        }
        for (one, other) in [("va", "vb"), ("vc", "vd")] {
            ip(&format!("link add {one} type veth peer name {other}"));
            for device in [one, other] {
                // Or the kernel's own neighbour discovery would be among what is counted.
                ip(&format!("link set {device} addrgenmode none"));
                ip(&format!("link set {device} up"));
            }
        }
        test();
    })
    .join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Packets that a device has received (`rx_packets`) and those that it dropped.
pub fn received(device: &str) -> (u64, u64) {
    let output = Command::new("ip").args(["-s", "-j", "link", "show", "dev", device]).output().unwrap();
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rx = &links[0]["stats64"]["rx"];
    (rx["packets"].as_u64().unwrap(), rx["dropped"].as_u64().unwrap())
}

/// A UDP packet over IPv4 of [`SIZE`] bytes to port 9, with `sequence`; its length.
pub fn write(frame: &mut [u8], sequence: u64) -> usize {
    const HEADERS: [u8; 42] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0xae, 0xa5, 192, 0, 2, 1, 198, 18, 0, 1, // IPv4
        4, 0, 0, 9, 0, 26, 0, 0, // UDP
    ];
    frame[..MAGIC_AT].copy_from_slice(&HEADERS);
    frame[MAGIC_AT..SEQUENCE_AT].copy_from_slice(&MAGIC);
    frame[SEQUENCE_AT..SEQUENCE_AT + 8].copy_from_slice(&sequence.to_be_bytes());
    frame[SEQUENCE_AT + 8..SIZE].fill(0);
    SIZE
}

pub fn sequence(packet: &[u8]) -> u64 {
    u64::from_be_bytes(packet[SEQUENCE_AT..SEQUENCE_AT + 8].try_into().unwrap())
}
