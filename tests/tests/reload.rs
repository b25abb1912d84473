//! A big configuration comes into force under traffic: no packet notices.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::{Control, Flow, Lab, Shape, in_lab, ping};

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

/// Prefixes of the set; `ZSYNC_PREFIXES` says otherwise.
const PREFIXES: usize = 1_000_000;
/// Routes of the table; `ZSYNC_ROUTES` says otherwise.
const ROUTES: usize = 1_000_000;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The prefix of this number, of nobody in the lab: none touches another, and one in four is of IPv6.
fn apart(number: usize) -> String {
    let number = number as u32 * 2;
    match number % 8 {
        0 => format!("2001:db8:{:x}:{:x}::/64", number >> 16, number & 0xffff),
        _ => format!("{}/32", std::net::Ipv4Addr::from_bits(0x6400_0000 + number)),
    }
}

/// Applies each text under traffic; how long each took, and how long packets rested meanwhile.
fn under_traffic(
    lab: &Lab,
    control: &Control<'_>,
    what: &str,
    texts: &[(String, Option<String>)],
) -> Result<()> {
    let flow = Flow::to_server(lab, 5_000, 7000)?;
    std::thread::sleep(REST);
    let mut reloads = Vec::new();
    for (reload, (text, list)) in texts.iter().enumerate() {
        if let Some(list) = list {
            std::fs::write(lab.folder().join("blocked.txt"), list)?;
        }
        let since = flow.now();
        let applied = control.apply(text, &[]).with_context(|| format!("reload {reload}"))?;
        let adopted = applied["adopted-us"].as_u64().with_context(|| format!("{applied:.500}"))?;
        ensure!(applied["respawned"] == false, "the data plane was started anew");
        std::thread::sleep(REST);
        reloads.push((since..flow.now(), Duration::from_micros(adopted)));
    }
    let report = flow.finish()?;
    println!("{report}");
    for (span, adopted) in reloads {
        let (whole, silence) = (span.end - span.start - REST, report.longest_silence(span));
        println!(
            "{what}: in force after {adopted:.1?} ({whole:.1?} with the text), longest silence {silence:.1?}"
        );
        ensure!(adopted < LIMIT && silence < LIMIT, "a reload took {adopted:?}, packets rested {silence:?}");
    }
    control.balanced()?;
    ensure!((report.lost(), report.duplicated(), report.reordered()) == (0, 0, 0), "{report}");
    Ok(())
}

#[test]
fn a_set_of_a_million_prefixes_is_replaced_from_its_file_and_no_packet_is_lost() {
    in_lab(Shape::router(), |lab| {
        let count = number("ZSYNC_PREFIXES", PREFIXES);
        let list = |from: usize| (from..from + count).map(|number| apart(number) + "\n").collect::<String>();
        let file = lab.folder().join("blocked.txt");
        let text = format!(
            "{}[set.blocked]\nfile = {:?}\n",
            config(10, 0).replace("rules = [", "rules = [{ drop = true, from = \"set.blocked\" },"),
            file.display().to_string()
        );
        let client = lab.client_addresses[0];
        std::fs::write(&file, "")?;
        let control = Control::start(lab, &text)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let texts: Vec<_> = (0..4).map(|turn| (text.clone(), Some(list(turn % 2 * 5)))).collect();
        under_traffic(lab, &control, &format!("{count} prefixes"), &texts)?;
        // The file is what counts: with the client on the list, nothing comes through.
        std::fs::write(&file, format!("{}{client}\n", list(0)))?;
        let applied = control.apply(&text, &[])?;
        let change = applied["changes"][0]["path"].as_str().unwrap_or_default().to_owned();
        ensure!(change == "set.blocked.file", "{applied:.500}");
        ensure!(ping(&lab.client, lab.server_addresses[0], 2)?.received == 0, "the client is on the list");
        // What was in the file comes back with the configuration.
        std::fs::remove_file(&file)?;
        control.ctl(&["rollback"])?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 2)?.all(), "the list before is not in force");
        Ok(())
    });
}

#[test]
fn beside_a_million_routes_a_reload_is_no_slower_and_a_table_of_them_is_taken_up() {
    in_lab(Shape::router(), |lab| {
        let count = number("ZSYNC_ROUTES", ROUTES);
        let batch = lab.folder().join("routes");
        let route = |number: usize| {
            let prefix = apart(number);
            let via = lab.server_addresses[usize::from(prefix.contains(':'))];
            format!("route add {prefix} via {via} table 100\n")
        };
        std::fs::write(&batch, (0..count).map(route).collect::<String>())?;
        lab.router.ip(&format!("-batch {}", batch.display()))?;
        let with = |rules: usize, table: &str| {
            config(rules, 0).replace("[route.main]", &format!("[route.main]\nby-mark = {{ 7 = {table} }}"))
        };
        let control = Control::start(lab, &config(10, 0))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        under_traffic(lab, &control, &format!("a table of {count} routes"), &[(with(10, "100"), None)])?;
        let texts: Vec<_> = (0..3).map(|turn| (with(11 + turn % 2, "100"), None)).collect();
        under_traffic(lab, &control, &format!("beside {count} routes"), &texts)?;
        Ok(())
    });
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
