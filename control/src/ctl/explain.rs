//! `zsyncctl explain`: the question, and the answer without a daemon.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use zsync_pipelines::spec::report;

use super::args::Args;
use super::output::{Failure, print, style};
use super::{pretty, read, view};
use crate::api::{Answer, Explain};
use crate::explain::{MOST, offline};
use crate::keys;

/// What is asked, from the command line.
pub(super) fn question(
    packet: Option<&String>,
    pcap: Option<&Path>,
    input: Option<&String>,
) -> Result<Explain, Failure> {
    let frames = pcap.map(frames_of).transpose()?;
    let question = Explain { packet: packet.cloned(), frames, input: input.cloned() };
    match question.subjects() {
        Ok(_) => Ok(question),
        Err(what) => Err(Failure::File(what)),
    }
}

/// The frames of a capture, in digits of base 16.
fn frames_of(path: &Path) -> Result<Vec<String>, Failure> {
    let wrong = |what: String| Failure::File(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut reader = PcapReader::new(BufReader::new(file)).map_err(|error| {
        wrong(format!("{error}; a capture as `tcpdump -w` writes it is wanted, not pcapng: `editcap -F pcap` makes one of the other"))
    })?;
    let link = reader.header().datalink;
    if link != DataLink::ETHERNET {
        return Err(wrong(format!(
            "it holds packets of link type {link:?}, not of Ethernet: capture on a port's device, and not on `any`"
        )));
    }
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|error| wrong(format!("packet {}: {error}", frames.len() + 1)))?;
        if packet.orig_len as usize > packet.data.len() {
            return Err(wrong(format!(
                "packet {} is cut off after {} of its {} bytes: capture whole packets, with `tcpdump -s 0`",
                frames.len() + 1,
                packet.data.len(),
                packet.orig_len
            )));
        }
        frames.push(packet.data.iter().map(|byte| format!("{byte:02x}")).collect());
        if frames.len() == MOST {
            break;
        }
    }
    Ok(frames)
}

/// The answer under a configuration that is not in force.
pub(super) fn alone(args: &Args, config: &Path, question: &Explain) -> Result<ExitCode, Failure> {
    let (name, source) = read(config)?;
    let parsed = match keys::look(&source, &name) {
        Ok(parsed) => parsed,
        Err(errors) => {
            return Err(Failure::File(report(&errors, &source, style(&std::io::stderr()))));
        }
    };
    let explained = offline(parsed.spec, question).map_err(Failure::File)?;
    let answer = Answer::Explained(explained);
    print(&if args.json { pretty(&answer) } else { super::render(&answer, view(args)) })?;
    Ok(ExitCode::SUCCESS)
}
