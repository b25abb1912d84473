//! `receive`: what arrives of a run, live and at its end; or a port lent to the `search` of another host.

use super::traffic::{Packets, Sockets, here, stream};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use zsync_bench::enclosure::execute;
use zsync_bench::watch::Watch;
use zsync_ends::counter::Marks;
use zsync_ends::far::FarEnd;
use zsync_ends::pair::{STEP_NS, clocks as clocks_of_this_host};
use zsync_ends::reader::{Manner, Reader};
use zsync_ends::remote::lend;
use zsync_ends::source::What;
use zsync_sink::clock::{Host, Watch as Clocks};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stamp {
    /// The kernel's XDP program writes down when a packet came.
    Kernel,
    /// The program, when it reads it.
    Read,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Take {
    /// Packets with the run's marks; all others stay the host's.
    Marks,
    /// Every packet, also the host's own: for a port that has nothing else, and devices that add or remove headers.
    All,
}

/// How packets are taken.
#[derive(Args)]
pub struct Taking {
    /// Which packets are taken from the device.
    #[arg(long, value_enum, default_value = "marks")]
    take: Take,
    /// Who writes down when a packet came.
    #[arg(long, value_enum, default_value = "kernel")]
    stamp: Stamp,
}

impl Taking {
    /// Whether every packet is taken.
    pub fn takes_all(&self) -> bool {
        self.take == Take::All
    }

    /// Refuses to take everything from the device that this host is reached by.
    ///
    /// # Errors
    /// It has a default route, and everything would be taken.
    pub fn check(&self, device: &str) -> Result<()> {
        if self.take != Take::All {
            return Ok(());
        }
        for family in ["-4", "-6"] {
            let output = execute(Command::new("ip").args([family, "-j", "route", "show", "default"]))?;
            let routes: serde_json::Value = serde_json::from_str(&output).unwrap_or_default();
            let mut devices =
                routes.as_array().into_iter().flatten().filter_map(|route| route["dev"].as_str());
            ensure!(
                !devices.any(|name| name == device),
                "--take all would cut this host off: its default route is by {device}; take marks, or another device"
            );
        }
        Ok(())
    }

    /// By what packets are told.
    pub fn marks(&self) -> Marks {
        if self.take == Take::All { Marks::All } else { Marks::Probes }
    }

    /// How a reader reads.
    pub fn manner(&self, sockets: &Sockets) -> Manner {
        Manner { marks: self.marks(), stamped: self.stamp == Stamp::Kernel, options: sockets.options() }
    }
}

#[derive(Args)]
pub struct Receive {
    /// Device that packets come by.
    #[arg(long)]
    netdev: String,
    #[command(flatten)]
    packets: Packets,
    #[command(flatten)]
    sockets: Sockets,
    #[command(flatten)]
    taking: Taking,
    /// Cores to read on, one for each queue.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// For how long; without it, until Ctrl-C.
    #[arg(long)]
    seconds: Option<f64>,
    /// Lends the port to `zsync-bench search --remote` of another host: nobody proves who he is, so listen where only
    /// your own hosts can reach.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// Receives, until it is told to stop; fails when what came is no measurement.
pub fn receive(what: &Receive) -> Result<ExitCode> {
    let ports = what.sockets.ports(std::slice::from_ref(&what.netdev), &what.cores)?;
    what.taking.check(&what.netdev)?;
    let manner = what.taking.manner(&what.sockets);
    if let Some(address) = what.listen {
        let listener = TcpListener::bind(address)?;
        eprintln!("zsync-bench: {} is lent at {}", what.netdev, listener.local_addr()?);
        lend(&listener, &ports, manner, &here(), &|line| eprintln!("zsync-bench: {line}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let profile = what.packets.profile(None)?;
    let packets = stream(&profile);
    let mut reader = Reader::new(ports, manner, &here())?;
    expect(&mut reader, &packets, profile.content.run, &what.taking)?;
    let watch = Watch::new("receive");
    let mut clocks = Clocks::new(Host::Sink, STEP_NS);
    let (start, mut said) = (Instant::now(), Instant::now());
    let time = what.seconds.map(Duration::try_from_secs_f64).transpose()?.unwrap_or(Duration::MAX);
    while start.elapsed() < time && watch.sleep(Duration::from_millis(100)).is_ok() {
        clocks.observe(&clocks_of_this_host());
        if said.elapsed() >= Duration::from_secs(1) {
            let line = reader.line(said.elapsed())?;
            said = Instant::now();
            watch.say(&line);
        }
    }
    watch.clear();
    let seen = reader.close(None, clocks.steps())?;
    print!("{}", seen.text);
    println!(
        "sent and lost are as the numbers in the packets tell: what was sent behind the last one that came is not known here"
    );
    println!("the latencies hold if the generator runs on this host, by whose clock they are told");
    if seen.load > 0 {
        println!("{} packets of the kernel's generator came, which have no numbers", seen.load);
    }
    if seen.foreign > 0 {
        println!("{} packets of others: left to the kernel, or none of this run", seen.foreign);
    }
    Ok(if seen.counts_valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn expect(reader: &mut Reader, packets: &What, run: u32, taking: &Taking) -> Result<()> {
    let flows = packets.flows();
    ensure!(flows > 0, "there are no flows to expect");
    reader.expect(taking.marks().of(packets)?, run, flows, None)
}
