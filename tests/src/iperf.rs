//! `iperf3`, and what it says.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{Process, hurry};
use crate::{Lab, wait_for};

const PORT: u16 = 5201;

/// An `iperf3` server in the lab's server namespace.
#[derive(Debug)]
pub struct Iperf<'lab> {
    lab: &'lab Lab,
    server: Process,
}

/// A client that runs beside the test.
#[derive(Debug)]
pub struct Running {
    process: Process,
}

/// What a client's run came to.
#[derive(Debug, Clone)]
pub struct Throughput {
    /// Bytes that the receiving side got.
    pub bytes: u64,
    /// Bits a second at the receiving side.
    pub bits_per_second: f64,
    /// UDP: the part of the packets that was lost, in percent.
    pub lost_percent: f64,
    /// UDP: packets that were sent.
    pub packets: u64,
    /// UDP: packets that iperf3's server did not read, those that overran its own socket among them.
    pub lost: u64,
    /// TCP: segments sent again.
    pub retransmits: u64,
}

impl<'lab> Iperf<'lab> {
    /// Starts the server.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn serve(lab: &'lab Lab) -> Result<Self> {
        let log = lab.folder().join("iperf3-server.log");
        let mut command = Command::new("iperf3");
        command.args(["--server", "--forceflush", "--port", &PORT.to_string()]);
        let server = Process::start(&lab.server, &mut command, &log).context("package iperf3")?;
        hurry(server.pid());
        let iperf = Self { lab, server };
        iperf.wait_until_it_listens()?;
        Ok(iperf)
    }

    /// After each client, the server closes its socket and opens another one.
    fn wait_until_it_listens(&self) -> Result<()> {
        wait_for("iperf3 to listen", Duration::from_secs(5), || {
            let log = self.server.log();
            let count = |words| log.matches(words).count();
            (count("Server listening") > count("Accepted connection")).then_some(())
        })
    }

    /// Starts a client: `options` as iperf3 has them (`-u`, `-R`, `-t`, `-b`).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, target: IpAddr, options: &[&str]) -> Result<Running> {
        let log = self.lab.folder().join("iperf3-client.log");
        let _ = std::fs::remove_file(&log);
        self.wait_until_it_listens()?;
        let mut command = Command::new("iperf3");
        command.args(["--json", "--client", &target.to_string(), "--port", &PORT.to_string()]).args(options);
        let process = Process::start(&self.lab.client, &mut command, &log)?;
        hurry(process.pid());
        Ok(Running { process })
    }

    /// Runs a client to its end.
    ///
    /// # Errors
    /// When it cannot run, or says that the connection broke.
    pub fn run(&self, target: IpAddr, options: &[&str]) -> Result<Throughput> {
        self.start(target, options)?.finish(Duration::from_secs(30))
    }
}

impl Running {
    /// Whether it still runs.
    ///
    /// # Errors
    /// When that cannot be asked.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    /// Waits for its end and reads its report.
    ///
    /// # Errors
    /// When it takes longer than `limit`, or its connection broke.
    pub fn finish(mut self, limit: Duration) -> Result<Throughput> {
        let status = self.process.wait(limit).context("iperf3")?;
        let text = self.process.log();
        let report: Value =
            serde_json::from_str(&text).with_context(|| format!("iperf3 {status}: {text}"))?;
        if let Some(error) = report.get("error") {
            bail!("iperf3: {error}");
        }
        let end = &report["end"];
        // UDP says it in `sum` (of the receiver); TCP in `sum_received`.
        let received = end.get("sum_received").or_else(|| end.get("sum")).context("iperf3: no sum")?;
        Ok(Throughput {
            bytes: received["bytes"].as_u64().unwrap_or(0),
            bits_per_second: received["bits_per_second"].as_f64().unwrap_or(0.0),
            lost_percent: end["sum"]["lost_percent"].as_f64().unwrap_or(0.0),
            packets: end["sum"]["packets"].as_u64().unwrap_or(0),
            lost: end["sum"]["lost_packets"].as_u64().unwrap_or(0),
            retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
        })
    }
}
