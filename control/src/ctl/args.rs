//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use zsync_pipelines::spec::parse_duration;
use zsync_pipelines::spec::wireguard::is_name;

use super::wireguard::Wireguard;
use crate::api::{RouteFilter, SOCKET, Show, Source, What};

/// Asks zsync what it does, and changes it.
#[derive(Debug, Parser)]
#[command(
    name = "zsyncctl",
    version,
    after_help = "Exit status: 0 done; 1 refused, or a configuration with errors; 2 wrong usage; 3 no daemon answers."
)]
pub(super) struct Args {
    /// The daemon's API socket
    #[arg(long, global = true, value_name = "PATH", env = "ZSYNC_SOCKET", default_value = SOCKET)]
    pub(super) socket: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print all digits of numbers
    #[arg(long, global = true)]
    pub(super) exact: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check configurations, without the daemon
    Check {
        /// Configurations; `-` is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show what applying a configuration would change
    Plan {
        /// The configuration; `-` is standard input
        file: PathBuf,
    },
    /// Put a configuration in force, wholly or not at all
    Apply {
        /// The configuration; `-` is standard input
        file: PathBuf,
        /// Take it back after this time unless `zsyncctl confirm` comes first: 1s to 24h, as `60s`
        #[arg(long, value_name = "TIME", value_parser = confirm_time)]
        confirm: Option<Duration>,
    },
    /// Keep the configuration that was applied with --confirm
    Confirm,
    /// Put an earlier configuration in force: the one before, or that of a number
    Rollback {
        /// Its number; see `zsyncctl show history`
        #[arg(value_name = "NUMBER")]
        to: Option<u64>,
    },
    /// Show how the whole is
    Status {
        #[command(flatten)]
        watch: Watch,
    },
    /// Show ports, workers, counters, rules of filters, connections, translations, ends of WireGuard, backends, forwarding tables, XDP programs,
    /// frames, tasks or earlier configurations
    Show {
        what: What,
        /// With `fib`: routes within a prefix, or those that cover an address. With `wireguard`: this end alone
        #[arg(value_name = "PREFIX|NAME", value_parser = prefix_or_name)]
        prefix: Option<String>,
        /// With `fib`, `filters`, `flows`, `mappings` and `wireguard`: the most rows to show [default: 1000]
        #[arg(long, value_parser = clap::value_parser!(u32).range(..=i64::from(Show::MAX_ROUTES)))]
        limit: Option<u32>,
        /// With `filters`, `flows` and `mappings`: this stage alone, like `nat.edge`
        #[arg(long, value_name = "STAGE")]
        stage: Option<String>,
        /// With `flows` and `mappings`: those with an end at this address, or within this prefix
        #[arg(long = "match", value_name = "ADDR", value_parser = prefix)]
        address: Option<String>,
        /// With `tasks`: a line for each wait, as programs that draw flame graphs take it
        #[arg(long, conflicts_with_all = ["watch", "json"])]
        folded: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// Tell what a packet would meet: each stage, what it matches there, and what becomes of it. Sends nothing
    #[command(group(clap::ArgGroup::new("subject").required(true).args(["packet", "pcap"])))]
    Explain {
        /// The packet, as "tcp 10.1.0.5:40000 -> 10.2.0.1:443"; then in=lan flags=syn,ack seq=1 ack=1 ttl=64 dscp=46 ecn=1 vlan=7
        /// size=100 id=9 frag=1480+ df type=3/1 echo-id=7, and `about` with the packet that an ICMP error is about
        #[arg(long, value_name = "TEXT")]
        packet: Option<String>,
        /// The packets of a capture; the first 1000
        #[arg(long, value_name = "FILE")]
        pcap: Option<PathBuf>,
        /// The port that they come in at [default: the one that the source is routed to]
        #[arg(long, value_name = "PORT")]
        input: Option<String>,
        /// Under this configuration, with this host's routes and no state, instead of the one in force; needs no daemon
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Start the data plane anew over the same sockets, as after an upgrade of its binary
    RestartDataplane,
    /// Let a backend take no new flows; it keeps those that it has
    Drain {
        /// Its address, and its port where it has one; see `zsyncctl show backends`
        backend: String,
        /// The stage, like `balance.web`; without it, all that have the backend
        #[arg(long, value_name = "STAGE")]
        stage: Option<String>,
        /// Let it take new flows again
        #[arg(long)]
        undo: bool,
    },
    /// Make keys of WireGuard, and take over files of wg-quick. Needs no daemon
    Wireguard {
        #[command(subcommand)]
        what: Wireguard,
    },
    /// Print the JSON schema of configurations, for editors
    Schema,
    /// Print completions for a shell
    Completions { shell: Shell },
}

#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// Show it again and again [default: every second]
    #[arg(long, value_name = "EVERY", value_parser = watch_time, num_args = 0..=1, default_missing_value = "1s")]
    watch: Option<Duration>,
}

impl Watch {
    pub(super) fn every(&self) -> Option<Duration> {
        self.watch
    }
}

fn confirm_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if Source::CONFIRM_MS.contains(&ms) { Ok(time) } else { Err("not 1s to 86400s".to_owned()) }
}

fn watch_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    let ms = time.as_millis();
    if (100..=60_000).contains(&ms) { Ok(time) } else { Err("not 100ms to 60s".to_owned()) }
}

fn prefix(text: &str) -> Result<String, &'static str> {
    RouteFilter::parse(text).map(|_| text.to_owned())
}

fn prefix_or_name(text: &str) -> Result<String, &'static str> {
    if is_name(text) { Ok(text.to_owned()) } else { prefix(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        for line in [
            "zsyncctl apply r.toml --confirm 60s",
            "zsyncctl show fib 10.0.0.0/8 --limit 5 --json",
            "zsyncctl show flows --stage track.main --limit 20 --match 10.0.0.1",
            "zsyncctl show mappings --match 2001:db8::/32 --watch",
            "zsyncctl show wireguard office --limit 5",
            "zsyncctl show filters --stage filter.edge",
            "zsyncctl show ports --watch",
            "zsyncctl show tasks --folded",
            "zsyncctl show ports --watch 500ms",
            "zsyncctl --socket /s status",
            "zsyncctl rollback 7",
            "zsyncctl drain 10.0.0.1:8443 --stage balance.web --undo",
            "zsyncctl wireguard genkey",
            "zsyncctl wireguard import /etc/wireguard/wg0.conf --name office --keys-in /k",
            "zsyncctl explain --pcap a.pcap --input wan --config r.toml",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "zsyncctl",
            "zsyncctl check",
            "zsyncctl apply r.toml --confirm 60",
            "zsyncctl apply r.toml --confirm 999ms",
            "zsyncctl show prots",
            "zsyncctl show tasks --folded --json",
            "zsyncctl wireguard",
            "zsyncctl explain",
            "zsyncctl show fib 10.0.0.0/33",
            "zsyncctl show fib --limit 100001",
            "zsyncctl show flows --match 10.0.0.1:80",
            "zsyncctl show ports --watch 1ms",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
