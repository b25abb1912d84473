//! A FIB in memory that follows the kernel, and what it is compared with: the kernel's own lookups.

use crate::lab::{Lab, run};
use serde_json::Value;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use zsync_control::netlink::{Adjacency, MemoryFib, Netlink, Options, Prefix, Target, links_now};

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn adjacency(port: u16, gateway: &str) -> Adjacency {
    Adjacency { port, gateway: addr(gateway) }
}

pub(crate) fn ports() -> HashMap<u32, u16> {
    let number = |name: &str| HashMap::from([("p1", 1), ("p2", 2)]).get(name).copied();
    links_now().unwrap().iter().filter_map(|link| Some((link.ifindex, number(&link.name)?))).collect()
}

/// What the kernel would do with a packet to `to`, against what the FIB says; an explanation where they differ.
pub(crate) fn differs(fib: &MemoryFib, to: &str) -> Option<String> {
    let found = fib.lookup(addr(to));
    let output = run(&format!("-j route get {to}"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let answer = &answer[0];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let agree = match found.map(|(_, target)| target) {
        None => error.contains("Network is unreachable"),
        Some(Target::Kernel) => true,
        Some(Target::OnLink(port)) => {
            let on_link = text(&answer["gateway"]).is_none() && answer["via"].is_null();
            on_link && answer["dev"].as_str() == Some(if *port == 1 { "p1" } else { "p2" })
        }
        // All links of this test have neighbours.
        Some(Target::Deliver(_)) => false,
        Some(Target::Local) => answer["type"] == "local",
        Some(Target::Blackhole) => error.contains("Invalid argument"),
        Some(Target::Unreachable) => error.contains("No route to host"),
        Some(Target::Prohibit) => error.contains("Permission denied"),
        Some(Target::Hops(hops)) => {
            let gateway = text(&answer["gateway"]).or_else(|| text(&answer["via"]["host"]));
            let gateway = addr(&gateway.unwrap_or_else(|| to.to_owned()));
            let port = match answer["dev"].as_str() {
                Some("p1") => 1,
                Some("p2") => 2,
                _ => 0,
            };
            answer["type"].is_null() && hops.iter().any(|(hop, _)| *hop == Adjacency { port, gateway })
        }
    };
    (!agree).then(|| format!("{to}: the FIB says {found:?}, the kernel {answer} {error}"))
}

pub(crate) struct Follower {
    pub(crate) netlink: Netlink,
    pub(crate) fib: MemoryFib,
}

impl Follower {
    pub(crate) fn start(options: Options) -> Self {
        Self { netlink: Netlink::start(ports(), options).unwrap(), fib: MemoryFib::default() }
    }

    /// Follows until `wrong` has nothing to say any more, or fails with what it says.
    pub(crate) async fn until(&mut self, wrong: impl Fn(&Self) -> Option<String>) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            // Cut short on purpose, again and again: dropping the future must lose nothing.
            if let Ok(changes) =
                tokio::time::timeout(Duration::from_millis(30), self.netlink.next_changes()).await
            {
                changes.unwrap();
                self.netlink.apply(&mut self.fib);
            }
            let Some(words) = wrong(self) else { return };
            assert!(Instant::now() < end, "{words}\n{:#?}", self.fib);
        }
    }

    pub(crate) async fn agrees(&mut self) {
        const PROBES: [&str; 22] = [
            "10.0.0.1",
            "10.0.0.2",
            "10.0.0.77",
            "10.0.0.255",
            "10.0.1.2",
            "10.0.5.9",
            "127.0.0.1",
            "10.9.0.1",
            "10.9.1.1",
            "10.10.0.1",
            "10.11.0.1",
            "10.12.0.1",
            "10.13.0.1",
            "10.14.0.1",
            "10.15.0.1",
            "10.99.0.1",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:9::1",
            "2001:db8:a::1",
            "2001:db8:b::1",
            "2001:db8:c::1",
        ];
        self.until(|me| PROBES.iter().find_map(|to| differs(&me.fib, to))).await;
    }

    pub(crate) async fn says(&mut self, prefix: &str, target: Option<Target>) {
        let prefix: Prefix = prefix.parse().unwrap();
        let wrong = |me: &Self| {
            let said = me.fib.entries.get(&prefix);
            (said != target.as_ref()).then(|| format!("{prefix}: {said:?}, not {target:?}"))
        };
        self.until(wrong).await;
    }
}

pub(crate) fn hops<const N: usize>(list: [(u16, &str, u8); N]) -> Option<Target> {
    Some(Target::Hops(list.map(|(port, gateway, weight)| (adjacency(port, gateway), weight)).into()))
}

pub(crate) fn follow(body: impl AsyncFnOnce(&Lab)) {
    let Some(lab) = Lab::new() else { return };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body(&lab));
}

pub(crate) const MAC: &str = "lladdr 02:00:00:00:00:77 nud permanent";
