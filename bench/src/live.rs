//! The kernel's generator as the near end of trials: paced, a core's worth, and cheap enough to overload a device that
//! shares the machine with it.
//!
//! Owns: the loaded program. Keeps true: the rate that it reports is of the times at which the first and the last packet went.
//! Refuses: rates that it would have to hold softirqs back for too long for, captures, and shapes but constant ones. As
//! many of its packets as the order wants to be readable have a probe, the others are load, marked as such.

use crate::generator::{Generator, Probes, Traffic};
use anyhow::{Result, bail, ensure};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use zsync_ends::Enter;
use zsync_ends::order::{Order, Rate, Sent, Went};
use zsync_ends::sender::{NearEnd, Running};
use zsync_traffic::flows::Choice;
use zsync_traffic::pace::Shape;
use zsync_traffic::profile::Profile;
use zsync_traffic::size::{Sizes, in_memory};
use zsync_traffic::sweep::Values;
use zsync_traffic::template::{Field, Ip, Transport};

/// The least rate, packets per second: a packet's wait ends after 32,768 looks at the clock, of some 20 ns.
pub const LEAST: u64 = 2000;
/// What stands for a patience that has no end: a century, which still fits what the XDP program adds.
const ENDLESS: Duration = Duration::from_secs(1 << 32);

/// The near end. See the module.
pub struct Live {
    generator: Arc<Generator>,
    core: usize,
    enter: Enter,
}

impl Live {
    /// Sends with that generator, from that core, after `enter`.
    pub fn new(generator: Arc<Generator>, core: usize, enter: Enter) -> Self {
        Self { generator, core, enter }
    }
}

impl Live {
    /// Whether its packets can be read, and not only counted.
    pub fn has_numbers(&self) -> bool {
        self.generator.has_numbers()
    }
}

impl NearEnd for Live {
    fn start(&self, order: &Arc<Order>) -> Result<Running> {
        let [phase] = order.phases[..] else { bail!("the live engine knows one rate at a time") };
        let rate = match phase.rate {
            Rate::Full => None,
            Rate::Shaped(rate, Shape::Constant) => Some(rate),
            Rate::Shaped(_, shape) => bail!("the live engine's packets are evenly spaced, and not {shape}"),
        };
        if let Some(rate) = rate {
            ensure!(
                rate >= LEAST,
                "the live engine sends at least {LEAST} packets/s, and {rate} were asked for"
            );
        }
        ensure!(order.packets.is_none(), "the live engine does not end at a packet: --engine xsk does");
        // The first of each so many, so that no more than are readable have numbers.
        let every = match (order.readable, rate) {
            (Some(0), _) | (_, None) => 0,
            (None, Some(_)) => 1,
            (Some(most), Some(rate)) => rate.div_ceil(most),
        };
        ensure!(
            every == 0 || self.generator.has_numbers(),
            "the live engine writes numbers into UDP over IPv4 of 64 bytes and more: --engine xsk does into all"
        );
        let (run, flows) = (order.run, u64::from(self.generator.flows()));
        // Without patience the schedule stands, and who is late is late: that is what latency is counted from.
        let patience = order.patience.unwrap_or(ENDLESS);
        let (generator, enter, core) = (Arc::clone(&self.generator), Enter::clone(&self.enter), self.core);
        Ok(Running::spawn(move |stop, sent| {
            enter()?;
            zsync_ends::Port { device: String::new(), queue: 0, core: Some(core) }.pin()?;
            let Some(rate) = rate else {
                let start = zsync_bench_xsk::clock::now();
                let packets = generator.run(phase.duration, stop)?;
                let went =
                    Went { asked: packets, packets, from_ns: start, to_ns: zsync_bench_xsk::clock::now() };
                return Ok(Sent { phases: vec![went], ..Sent::default() });
            };
            let asked = (rate as f64 * phase.duration.as_secs_f64()).round() as u64;
            if asked == 0 {
                return Ok(Sent { phases: vec![Went::default()], ..Sent::default() });
            }
            let paced = generator.run_paced(rate, asked, patience, Probes { every, run })?;
            let made = paced.made;
            sent.store(made, std::sync::atomic::Ordering::Relaxed);
            let probes = if every == 0 { 0 } else { made.div_ceil(every) };
            let of = |flow| probes / flows + u64::from(flow < probes % flows);
            // One interval more than from the first to the last: each packet has its own.
            let to_ns = paced.last_ns + 1_000_000_000 / rate;
            let went = Went { asked: probes, packets: probes, from_ns: paced.first_ns, to_ns };
            let flows = (0..flows).map(of).collect();
            Ok(Sent { phases: vec![went], flows, load: made - probes, ..Sent::default() })
        }))
    }
}

/// A profile's packets, as far as the kernel's generator can make them.
///
/// # Errors
/// What it cannot make, and who can.
pub fn traffic(profile: &Profile, ifindex: u32) -> Result<Traffic> {
    let content = &profile.content;
    let layers = &content.layers;
    let refuse = |what: &str| bail!("the live engine makes UDP of one size and no {what}: --engine xsk does");
    let Transport::Udp { source, destination, .. } = layers.transport else {
        return refuse("other protocol");
    };
    let Sizes::Fixed(size) = content.sizes else { return refuse("mixed sizes") };
    if !layers.tags.is_empty() || layers.tunnel.is_some() {
        return refuse("tags or tunnels");
    }
    if layers.ip != Ip::new(layers.ip.source, layers.ip.destination) {
        return refuse("other TTL, DSCP or flow label");
    }
    if content.flows > 1 && content.choice != Choice::RoundRobin {
        return refuse("choice of flows");
    }
    let first = u128::from(source);
    let by_source_port = |(field, values): &(Field, Values)| {
        *field == Field::SourcePort
            && matches!(values, Values::Step { start, step: 1, .. } if *start == first)
    };
    if !content.sweeps.iter().all(by_source_port) || profile.shape != Shape::Constant {
        return refuse("sweeps but sport=FIRST..LAST, nor shapes");
    }
    let at = |address: IpAddr, port| SocketAddr::new(address, port);
    Ok(Traffic {
        ifindex,
        source_mac: layers.source,
        destination_mac: layers.destination,
        source: at(layers.ip.source, source),
        destination: at(layers.ip.destination, destination),
        size: in_memory(size),
        flows: content.flows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_engine_takes_what_it_can_make_and_names_what_it_cannot() {
        let plain = |text: &str| traffic(&text.parse().unwrap(), 3);
        let traffic = plain("src=10.0.0.1 dst=10.0.0.2 sport=1024..1033 flows=10 size=64").unwrap();
        assert_eq!((traffic.size, traffic.flows, traffic.source.port()), (60, 10, 1024));
        for (profile, why) in [
            ("proto=tcp size=128", "other protocol"),
            ("size=imix", "mixed sizes"),
            ("vlan=3 size=128", "tags"),
            ("dport=1..9 flows=9", "sweeps"),
            ("shape=poisson", "shapes"),
        ] {
            let error = plain(profile).unwrap_err().to_string();
            assert!(error.contains(why), "{profile}: {error}");
        }
    }
}
