//! Tools: what the generator and the sink themselves cost per packet, in memory: one core's limit, before any device.
//!
//! Writing packets, telling received ones apart, and counting arrivals. Keeps true: everything is set up before it is
//! timed; each round gives every case its turn (see [`crate::stages::costs`]).

use crate::stages::costs::{Cost, Costs};
use crate::stages::sample::{Sweep, sample};
use crate::tsc;
use crate::watch::{Rounds, Watch};
use anyhow::{Context, Result, ensure};
use std::hint::black_box;
use std::time::Duration;
use zsync_sink::sequence::Window;
use zsync_sink::{Arrival, Expect, Sink, Source};
use zsync_traffic::profile::Profile;
use zsync_traffic::random::Random;
use zsync_traffic::stream::{Class, Stream, classify};

/// Packets of a sweep.
const SWEEP: usize = 4096;
/// Frames that packets are written to in turn: a burst's.
const FRAMES: usize = 64;
/// Bytes of a frame.
const FRAME: usize = 2048;
/// Flows where there are many: 2^20, so that they come in an order that a multiplication tells.
const MANY: u32 = 1 << 20;
/// A packet's time on the way, in ns: at least, and how much more, as over a veth.
const WAY: (u64, u64) = (5_000, 20_000);

/// Streams that are written.
const STREAMS: [(&str, &str); 5] = [
    ("write-64", ""),
    ("write-64-1M-flows", "flows=1000000 choice=uniform src=10.0.0.0+1x1000 sport=1024+1x1000"),
    ("write-64-1M-zipf", "flows=1000000 choice=zipf:1.1 src=10.0.0.0+1x1000 sport=1024+1x1000"),
    ("write-imix", "size=imix"),
    ("write-vxlan", "size=128 tunnel=vxlan outer-src=10.0.0.1 outer-dst=10.0.0.2"),
];
/// Streams whose packets are told apart.
const RECEIVED: [(&str, &str); 3] = [
    ("classify-64", ""),
    ("classify-imix", "size=imix"),
    ("classify-vxlan", "size=128 tunnel=vxlan outer-src=10.0.0.1 outer-dst=10.0.0.2"),
];

/// One case: its name, and what is done to [`SWEEP`] packets.
struct Tool {
    name: &'static str,
    work: Box<dyn FnMut() -> Result<()>>,
}

/// Measures all cases in about `time`.
///
/// # Errors
/// A case that cannot be set up, or goes wrong.
pub fn run(rounds: usize, time: Duration, watch: &Watch, costs: &mut Costs) -> Result<()> {
    let mut tools = Vec::new();
    for (name, text) in STREAMS {
        tools.push(Tool { name, work: Box::new(write(stream(text)?)) });
    }
    for (name, text) in RECEIVED {
        tools.push(Tool { name, work: Box::new(tell(stream(text)?)?) });
    }
    for (name, flows, window) in [
        ("arrive-1-flow", 1, Window::Narrow),
        ("arrive-1M-flows", MANY, Window::Narrow),
        ("arrive-1M-flows-wide", MANY, Window::Wide),
    ] {
        tools.push(Tool { name, work: Box::new(arrive(flows, window)?) });
    }
    let turn = time / (tools.len() * rounds).max(1) as u32;
    let (mut done, total) = (0, tools.len() * rounds);
    let mut samples = vec![Vec::new(); tools.len()];
    let Rounds { done: whole, note } = watch.rounds(rounds, Duration::MAX, |round| {
        for (tool, samples) in tools.iter_mut().zip(&mut samples) {
            watch.step(done, total, &format!("round {} of {rounds}, {}", round + 1, tool.name));
            let sweep = || {
                let mut worked = Ok(());
                let sweep = Sweep::of(SWEEP, || worked = (tool.work)());
                worked.with_context(|| tool.name).map(|()| sweep)
            };
            samples.push(sample(turn, watch, sweep)?);
            done += 1;
        }
        Ok(())
    })?;
    samples.iter_mut().for_each(|samples| samples.truncate(whole));
    costs.notes.extend(note);
    let named = tools.iter().zip(samples);
    costs.costs.extend(named.map(|(tool, samples)| Cost {
        name: tool.name.into(),
        budget: None,
        limit: None,
        samples,
    }));
    if let Some(ticks) = tsc::ticks_per_nanosecond() {
        costs.notes.push(format!("{ticks:.2} clocks are a nanosecond"));
    }
    costs.notes.push(format!(
        "64 bytes with FCS but where a name says else; written to {FRAMES} frames in turn, arriving by {FRAMES}; 1M arriving flows are {MANY}, \
         each of which comes again when all others have"
    ));
    Ok(())
}

fn stream(text: &str) -> Result<Stream> {
    let profile: Profile = text.parse()?;
    Ok(Stream::new(&profile.content, profile.seed)?)
}

fn write(mut stream: Stream) -> impl FnMut() -> Result<()> {
    let mut frames = vec![[0; FRAME]; FRAMES];
    let mut now = 0;
    move || {
        for _ in 0..SWEEP / FRAMES {
            for frame in &mut frames {
                now += 10;
                stream.write(now, now, frame)?;
            }
            black_box(&mut frames);
        }
        Ok(())
    }
}

fn tell(mut stream: Stream) -> Result<impl FnMut() -> Result<()>> {
    let mut frames = vec![(0, [0; FRAME]); FRAMES];
    for (len, frame) in &mut frames {
        *len = stream.write(0, 0, frame)?;
    }
    Ok(move || {
        let mut ours = 0;
        for _ in 0..SWEEP / FRAMES {
            for (len, frame) in black_box(&frames) {
                ours += usize::from(matches!(classify(&frame[..*len], 0), Class::Probe(_)));
            }
        }
        ensure!(ours == SWEEP, "{ours} of {SWEEP} packets were known again");
        Ok(())
    })
}

fn arrive(flows: u32, window: Window) -> Result<impl FnMut() -> Result<()>> {
    let expect = Expect { run: 1, flows, window };
    let mut sink = Sink::new(expect)?;
    let mut random = Random::new(1, 1);
    let ways: Vec<u64> = (0..SWEEP).map(|_| WAY.0 + random.below(WAY.1)).collect();
    let mut packets = 0u64;
    let mut burst = Vec::with_capacity(FRAMES);
    Ok(move || {
        for way in &ways {
            // An odd factor: every flow once in each pass, far from the one before.
            let flow = (packets as u32).wrapping_mul(0x9e37_79b1) % flows;
            let departed_ns = 100 * packets;
            burst.push(black_box(Arrival {
                run: 1,
                flow,
                sequence: packets / u64::from(flows),
                departed_ns,
                sent_ns: departed_ns + 50,
                arrived_ns: departed_ns + way,
                source: Source::Kernel,
                bytes: 60,
            }));
            packets += 1;
            if burst.len() == FRAMES {
                sink.arrive_all(&burst, |_, _| ());
                burst.clear();
            }
        }
        let received = sink.intended().count();
        ensure!(received == packets, "{received} of {packets} packets were counted");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::costs::{self, Plan};

    #[test]
    fn every_tool_is_measured_and_none_loses_a_packet() {
        let costs = costs::run(Plan::Tools, 2, Duration::ZERO, false, &Watch::silent()).unwrap();
        assert_eq!(costs.costs.len(), STREAMS.len() + RECEIVED.len() + 3);
        for cost in &costs.costs {
            assert!(
                cost.samples.len() == 2 && cost.samples.iter().all(|&clocks| clocks > 0.0),
                "{}",
                cost.name
            );
        }
        let outcomes = costs.outcomes("tools", "");
        assert_eq!(
            (outcomes[0].name.as_str(), outcomes[0].unit.as_str()),
            ("tools: write-64", "clocks/packet")
        );
    }
}
