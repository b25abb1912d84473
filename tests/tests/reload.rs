//! A big configuration comes into force under traffic: no packet notices.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, ensure};
use zsync_tests::{Control, Flow, Shape, in_lab, ping};

/// Rules of the filter; `ZSYNC_RULES` says otherwise.
const RULES: usize = 100_000;
/// Reloads, from one list of rules to another and back.
const RELOADS: usize = 4;
/// Between two of them.
const REST: Duration = Duration::from_millis(300);
/// How long a reload may take, and packets may rest, before something is wrong: the machine may do much else.
const LIMIT: Duration = Duration::from_secs(60);

fn rules() -> usize {
    std::env::var("ZSYNC_RULES").ok().and_then(|text| text.parse().ok()).unwrap_or(RULES)
}

/// A router with `count` rules about other networks than the lab's, in an order that depends on `turn`.
fn config(count: usize, turn: usize) -> String {
    let mut rules = String::new();
    for rule in 0..count {
        let number = (rule + turn * 7919) % count;
        let (a, b, c) = (number >> 16 & 0x7f, number >> 8 & 0xff, number & 0xff);
        let action = if (rule + turn).is_multiple_of(3) { "accept" } else { "drop" };
        let port = 1000 + (number * 31 + turn) % 60_000;
        let _ = match rule % 4 {
            0 => writeln!(
                rules,
                "{{ {action} = true, from = \"172.{}.{b}.{c}/32\", to-port = {port}, protocol = \"tcp\" }},",
                16 + a
            ),
            1 => writeln!(rules, "{{ {action} = true, to = \"100.{}.{b}.{c}/32\" }},", 64 + a),
            2 => writeln!(rules, "{{ {action} = true, from = \"2001:db8:{a:x}:{b:x}{c:02x}::/64\" }},"),
            _ => writeln!(
                rules,
                "{{ {action} = true, from = \"198.{}.{b}.0/24\", to-port = {port}, protocol = \"udp\" }},",
                128 + a
            ),
        };
    }
    format!(
        r#"
        [port.wan]
        netdev = "eth1"
        [port.lan]
        netdev = "eth2"
        [pipeline.edge]
        input  = ["wan", "lan"]
        stages = ["filter.edge", "route.main"]
        [route.main]
        [filter.edge]
        default = "accept"
        rules = [
        {rules}]
        "#
    )
}

#[test]
fn a_big_filter_is_replaced_and_no_packet_is_lost() {
    in_lab(Shape::router(), |lab| {
        let count = rules();
        let texts: Vec<String> = (0..2).map(|turn| config(count, turn)).collect();
        let control = Control::start(lab, &config(10, 0))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let flow = Flow::to_server(lab, 5_000, 7000)?;
        std::thread::sleep(REST);
        let before = flow.now();
        std::thread::sleep(REST);
        let quiet = before..flow.now();
        let mut reloads = Vec::new();
        for reload in 0..RELOADS {
            let (since, text) = (flow.now(), &texts[reload % texts.len()]);
            let applied = control.apply(text, &[]).with_context(|| format!("reload {reload}"))?;
            let adopted = applied["adopted-us"].as_u64().with_context(|| format!("{applied:.500}"))?;
            ensure!(applied["respawned"] == false, "the data plane was started anew");
            std::thread::sleep(REST);
            reloads.push((since..flow.now(), Duration::from_micros(adopted)));
        }
        let report = flow.finish()?;
        println!("{report}");
        println!("without a reload: longest silence {:.1?}", report.longest_silence(quiet));
        for (span, adopted) in reloads {
            let (whole, silence) = (span.end - span.start - REST, report.longest_silence(span));
            println!(
                "{count} rules: in force after {adopted:.1?} ({whole:.1?} with the text), longest silence {silence:.1?}"
            );
            ensure!(
                adopted < LIMIT && silence < LIMIT,
                "a reload took {adopted:?}, packets rested {silence:?}"
            );
        }
        control.balanced()?;
        ensure!((report.lost(), report.duplicated(), report.reordered()) == (0, 0, 0), "{report}");
        Ok(())
    });
}
