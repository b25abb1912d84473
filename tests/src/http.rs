//! A small HTTP server, and a client that asks it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::{Lab, Namespace, wait_for};

/// `http.server`, but it does not look its own name up: nobody in a lab answers that, and a filter lets it wait.
const SERVER: &str = "import runpy, socket\nsocket.getfqdn = lambda name='': name\n\
                      runpy.run_module('http.server', run_name='__main__')\n";

/// `python3 -m http.server` in a namespace, with a page that says which server it is.
#[derive(Debug)]
pub struct Web {
    server: Process,
}

impl Web {
    /// Starts one at `address`. Whoever asks for `/` gets `page`.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn serve(lab: &Lab, namespace: &Namespace, address: SocketAddr, page: &str) -> Result<Self> {
        // Of one server alone, whatever started before it.
        let name = format!("web-{}", address.to_string().replace([':', '.', '[', ']'], "-"));
        let folder = lab.folder().join(&name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("index.html"), page)?;
        let log = lab.folder().join(format!("{name}.log"));
        let _ = fs::remove_file(&log);
        let mut command = Command::new("python3");
        command.args(["-u", "-c", SERVER, "--bind", &address.ip().to_string(), "--directory"]);
        command.arg(&folder).arg(address.port().to_string());
        let server = Process::start(namespace, &mut command, &log).context("package python3")?;
        wait_for("the HTTP server to listen", Duration::from_secs(10), || {
            server.log().contains("Serving HTTP").then_some(())
        })?;
        Ok(Self { server })
    }

    /// Who asked so far: the addresses, in order.
    #[must_use]
    pub fn clients(&self) -> Vec<String> {
        let log = self.server.log();
        let asked = log.lines().filter(|line| line.contains("\"GET "));
        asked.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }
}

/// Asks for `/` by `curl`, within three seconds; the page.
///
/// # Errors
/// What `curl` said.
pub fn get(namespace: &Namespace, from: SocketAddr) -> Result<String> {
    namespace.output(Command::new("curl").args(["-sS", "--max-time", "3", &format!("http://{from}/")]))
}

/// As [`get`], so many times, each by a connection of its own; the pages, of one line each.
///
/// # Errors
/// What `curl` said, when any of them failed.
pub fn get_times(namespace: &Namespace, from: SocketAddr, times: usize) -> Result<Vec<String>> {
    let mut command = Command::new("curl");
    // HTTP/1.0 has one answer a connection.
    command.args(["-sS", "--http1.0", "--fail-early", "--max-time", "3", "-w", "\n"]);
    command.args(vec![format!("http://{from}/"); times]);
    Ok(namespace.output(&mut command)?.lines().map(str::to_owned).collect())
}
