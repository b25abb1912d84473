//! A far end that counts in the driver and drops: the cheapest there is, for rates that no program could read at.
//!
//! Owns: the XDP program. It tells the order's packets by the mark of their probes (the first bytes behind the headers that
//! the sender wrote), so a device under test that adds or takes headers needs [`Marks::All`]. Refuses: nothing else; it
//! knows neither copies nor order nor time.

use crate::Enter;
use crate::far::{FarEnd, Seen};
use crate::order::{Order, Sent};
use crate::source::What;
use anyhow::{Result, bail};
use std::time::Duration;
use zsync_bench_xsk::{Action, Counts, Match, Sink};
use zsync_sink::clock::Step;
use zsync_traffic::probe::{LOAD_MAGIC, SHORT_MAGIC};
use zsync_traffic::template::Template;

/// By what the far end tells the packets of a trial from others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// By the mark of their probes, where the sender put it. All other packets stay the kernel's.
    Probes,
    /// Every packet is taken from the host, whatever it is: for a port that has nothing else.
    All,
}

impl Marks {
    /// What the XDP program is to take.
    ///
    /// # Errors
    /// Headers that cannot be, or that end beyond 255 bytes.
    pub fn of(self, what: &What) -> Result<Match> {
        let (Self::Probes, What::Stream { content, .. }) = (self, what) else { return Ok(Match::All) };
        let at = Template::new(&content.layers)?.header_len();
        let Ok(at) = u8::try_from(at) else { bail!("headers of {at} bytes: marks can be found up to 255") };
        Ok(probes_at(at))
    }
}

/// Packets that have the mark of a probe, or of load, `at` bytes behind the Ethernet header's start.
pub(crate) fn probes_at(at: u8) -> Match {
    // The two layouts of a probe, and the mark of what is only load, differ in the upper bits of the second byte.
    let (mut mask, mut value, mut load) = ([0; 8], [0; 8], [0; 8]);
    (mask[0], value[0], load[0]) = (0xff, SHORT_MAGIC[0], LOAD_MAGIC[0]);
    (mask[1], value[1], load[1]) = (0xc0, SHORT_MAGIC[1] & 0xc0, LOAD_MAGIC[1] & 0xc0);
    Match::Bytes { at, mask, value, load: Some(load) }
}

/// Counts. See the module.
pub struct Counter {
    device: String,
    marks: Marks,
    enter: Enter,
    program: Option<(Match, Sink)>,
    before: Counts,
    last: u64,
}

impl Counter {
    /// On a device, which nothing else may be attached to.
    pub fn new(device: &str, marks: Marks, enter: &Enter) -> Self {
        let (device, enter) = (device.to_owned(), Enter::clone(enter));
        Self { device, marks, enter, program: None, before: Counts::default(), last: 0 }
    }

    fn counts(&self) -> Result<Counts> {
        Ok(match &self.program {
            Some((_, program)) => program.counts()?,
            None => Counts::default(),
        })
    }

    /// Ready for such packets.
    ///
    /// # Errors
    /// The device is another's, or is gone.
    pub fn expect(&mut self, packets: Match) -> Result<()> {
        if self.program.as_ref().is_none_or(|(is, _)| *is != packets) {
            // The old one goes first: a device has room for one.
            self.close();
            let (enter, device) = (Enter::clone(&self.enter), self.device.clone());
            let attach = move || -> Result<Sink> {
                enter()?;
                Ok(Sink::attach(&device, Action::Count, packets)?)
            };
            let attached = std::thread::spawn(attach).join();
            let program = attached.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            self.program = Some((packets, program));
        }
        self.before = self.counts()?;
        self.last = 0;
        Ok(())
    }

    /// Leaves the device to others.
    pub fn close(&mut self) {
        self.program = None;
        (self.before, self.last) = (Counts::default(), 0);
    }
}

impl FarEnd for Counter {
    fn begin(&mut self, order: &Order) -> Result<()> {
        self.expect(self.marks.of(&order.what)?)
    }

    fn counted(&mut self) -> Result<u64> {
        Ok(self.counts()?.taken() - self.before.taken())
    }

    fn line(&mut self, took: Duration) -> Result<String> {
        let counted = self.counted()?;
        let rate = (counted - self.last) as f64 / took.as_secs_f64();
        self.last = counted;
        Ok(format!("{}  received {counted}", zsync_sink::live::Rate(rate)))
    }

    fn end(&mut self, sent: &Sent, _: &[Step]) -> Result<Seen> {
        let counts = self.counts()?;
        let received = counts.taken() - self.before.taken();
        let foreign = counts.foreign - self.before.foreign;
        let mut verdicts = Vec::new();
        if received == 0 && foreign > 0 {
            verdicts.push(format!(
                "of {foreign} packets none had its marks where the sender wrote them: a device that adds or removes headers \
                 takes --take all"
            ));
        } else if received == 0 {
            verdicts.push("no packet arrived: look at the link, the filters and the addresses".to_owned());
        }
        let (rate, offered) = (zsync_sink::live::Rate, sent.all());
        let seconds = sent.duration().as_secs_f64().max(1e-9);
        let lost = offered.saturating_sub(received);
        let text = format!(
            "  sent        {offered:>16}  {}\n  received    {received:>16}  {}\n  lost        {lost:>16}  {}\n\
             \x20 others'     {foreign:>16}  left to the kernel\n  counted in the driver of {}, not read: no order, no latency\n",
            rate(offered as f64 / seconds),
            rate(received as f64 / seconds),
            zsync_sink::live::Percent(if offered == 0 { 0.0 } else { lost as f64 / offered as f64 }),
            self.device,
        );
        let counts_valid = verdicts.is_empty();
        Ok(Seen { received, foreign, verdicts, counts_valid, text, ..Seen::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use zsync_traffic::probe::Probe;
    use zsync_traffic::profile::Profile;

    fn marks(profile: &str) -> Match {
        let profile: Profile = profile.parse().unwrap();
        let what = What::Stream { content: Arc::new(profile.content), seed: 1 };
        Marks::Probes.of(&what).unwrap()
    }

    #[test]
    fn the_marks_are_where_the_headers_end_and_tell_probes_from_load() {
        let bytes = |first, second| [first, second, 0, 0, 0, 0, 0, 0];
        let at = |at| Match::Bytes {
            at,
            mask: bytes(0xff, 0xc0),
            value: bytes(0x5a, 0x40),
            load: Some(bytes(0x5a, 0x80)),
        };
        assert_eq!(marks("size=64"), at(42));
        assert_eq!(marks("vlan=7 src=2001:db8::1 dst=2001:db8::2 size=1518"), at(66));
        assert_eq!(marks("size=imix"), at(42));
        for len in [18, 36] {
            let [first, second] = Probe::mark_for(len).unwrap();
            assert_eq!((first, second & 0xc0), (0x5a, 0x40));
        }
    }
}
