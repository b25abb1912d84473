//! `search` for what a table of connections takes: both ends on this host, or in the namespaces of `veth-route`.

use super::traffic::{Packets, Sockets, here, stream};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::process::Command;
use zsync_bench::connections::{Findings, Plan, run};
use zsync_bench::forwarder::{Forwarder, Kind as Way};
use zsync_bench::kernel;
use zsync_bench::place::{self, Part};
use zsync_bench::search::Eyes;
use zsync_bench::watch::Watch;
use zsync_bench::{conntrack, enclosure};
use zsync_ends::Port;
use zsync_ends::connections::{Clear, Opener, Side, connections_of};
use zsync_ends::counter::Marks;
use zsync_report::outcome::{Direction, Outcome, Series};
use zsync_search::connections::Attempt;

/// How connections are searched for.
#[derive(Args)]
pub struct Opening {
    /// Connections that each trial of connection-rate opens: they must fit the table. Without it 50,000, which fit the ports
    /// of one address.
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    connections: u64,
    /// The most connections that table-capacity tries; not more than the addresses and ports of the packets tell apart.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    most_connections: u64,
    /// What empties the device's table of connections: run by `sh -c`, before each trial. Not needed with --through
    /// kernel-track or kernel-nat.
    #[arg(long, value_name = "COMMAND")]
    clear_command: Option<String>,
}

/// Both ends, and what they are to do.
pub struct Wires<'a> {
    pub packets: &'a Packets,
    pub sockets: &'a Sockets,
    pub marks: Marks,
    pub opening: &'a Opening,
    /// What of it is the same as in other searches.
    pub plan: Plan,
}

impl Wires<'_> {
    /// Between a device of this host and another one.
    pub fn between_ports(
        mut self,
        from: (&[String], &[usize]),
        to: Option<(&String, &[usize])>,
        watch: &Watch,
        each: &dyn Fn(&Attempt),
    ) -> Result<Findings> {
        let (device, cores) = to.context(
            "connections need both ends on this host, --from and --to: the responder answers what it saw, which \
             another host's end cannot do yet",
        )?;
        ensure!(from.0.len() == 1, "connections are opened from one device: give one in --from");
        let profile = self.packets.profile(from.0.first().map(String::as_str))?;
        let side = |devices: &[String], cores: &[usize]| -> Result<Side> {
            Ok(Side { ports: self.sockets.ports(devices, cores)?, enter: here() })
        };
        let sides = [side(from.0, from.1)?, side(std::slice::from_ref(device), cores)?];
        let command = self.opening.clear_command.as_deref();
        let command = command.context("connections need --clear-command: what empties the device's table")?;
        let mut clear = || by_command(command);
        self.search(sides, &stream(&profile), &mut clear, watch, each)
    }

    /// Between the namespaces of `veth-route`, which are there.
    pub fn between_namespaces(
        mut self,
        through: Way,
        cores: [usize; 2],
        watch: &Watch,
        each: &dyn Fn(&Attempt),
    ) -> Result<Findings> {
        let profile = self.packets.profile_with(None, place::CONNECTIONS)?;
        let side = |part: Part, core: usize| Side {
            ports: vec![Port { device: "eth0".to_owned(), queue: 0, core: Some(core) }],
            enter: place::enter(part),
        };
        let sides = [side(Part::Source, cores[0]), side(Part::Sink, cores[1])];
        let of_kernel = matches!(through, Way::Nftables(kernel::Way::Track | kernel::Way::Masquerade));
        let command = self.opening.clear_command.as_deref();
        if command.is_none() && !of_kernel {
            bail!(
                "{} has no table of connections to be emptied: measure kernel-track or kernel-nat, or give \
                 --clear-command",
                through.name()
            );
        }
        let _forwarder = Forwarder::start(through)?;
        let mut clear = || match command {
            Some(command) => by_command(command),
            None => Part::Router.run(conntrack::clear),
        };
        let mut found = self.search(sides, &stream(&profile), &mut clear, watch, each)?;
        if of_kernel || matches!(through, Way::Kernel | Way::Redirect) {
            let note = "the kernel forwards on the initiator's core, in its time: the rate is what both reach together";
            found.notes.push(note.to_owned());
        }
        Ok(found)
    }

    fn search(
        &mut self,
        sides: [Side; 2],
        what: &zsync_ends::source::What,
        clear: &mut Clear<'_>,
        watch: &Watch,
        each: &dyn Fn(&Attempt),
    ) -> Result<Findings> {
        let told = connections_of(what)?;
        let count = self.plan.count;
        ensure!(
            count <= told,
            "the addresses and ports of the packets tell {told} connections apart, and {count} were asked for: widen \
             a sweep, as sport=1024..65535, or lower --connections"
        );
        self.plan.most = self.plan.most.min(told);
        let eyes = Eyes(watch);
        let mut opener = Opener::open(sides, &self.sockets.options(), self.marks, what, clear, &eyes)?;
        run(&self.plan, &mut opener, watch, each)
    }
}

impl Opening {
    /// How many the rate is searched with, and how many are tried for the capacity.
    ///
    /// # Errors
    /// Either is 0.
    pub fn counts(&self) -> Result<(u64, u64)> {
        ensure!(self.connections > 0 && self.most_connections > 0, "there must be connections");
        Ok((self.connections, self.most_connections))
    }
}

fn by_command(command: &str) -> Result<()> {
    enclosure::execute(Command::new("sh").args(["-c", command])).map(drop)
}

/// As `--json` prints them: the rate, and the capacity where it was searched for.
pub fn outcomes(found: &Findings, name: &str, wants_capacity: bool) -> Vec<Outcome> {
    let of = |name_of, unit: &str, title: &str, sample: Option<f64>, irregular: &Option<String>| {
        let samples: Vec<f64> = sample.filter(|_| irregular.is_none()).into_iter().collect();
        let mut outcome = Outcome::new(name_of, unit, Direction::More, Series::new(name, samples));
        outcome.title = title.to_owned();
        outcome.notes = found.texts.iter().chain(&found.notes).cloned().collect();
        outcome.invalid = irregular.iter().map(|why| format!("no regular result: {why}")).collect();
        outcome
    };
    let rate = of(
        "search connection-rate",
        "connections/s",
        "the greatest rate at which all connections are opened",
        found.rate,
        &found.irregular_rate,
    );
    let capacity = of(
        "search table-capacity",
        "connections",
        "the most connections that the table holds",
        found.capacity.map(|count| count as f64),
        &found.irregular_capacity,
    );
    std::iter::once(rate).chain(wants_capacity.then_some(capacity)).collect()
}
