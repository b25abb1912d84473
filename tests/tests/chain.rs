//! XDP programs of the operator's own ahead of zsync: under traffic, replaced, refused, forgetful, and through crashes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use zsync_tests::control::{Control, pins, run_dir};
use zsync_tests::netns::execute;
use zsync_tests::ping::ping_with;
use zsync_tests::{Flow, FlowPlan, Lab, Shape, in_lab, ping, wait_for};

const AMPLIFIED: &str = env!("ZSYNC_AMPLIFIED");
const LIMIT: &str = env!("ZSYNC_LIMIT");
const HEAD: &str = "#include \"zsync_xdp.h\"\n#include <bpf/bpf_helpers.h>\n\
                    char _license[] SEC(\"license\") = \"MIT OR Apache-2.0\";\n";

/// Compiles a program in C to `NAME.o` in the lab's folder, where the configuration is.
fn compile(lab: &Lab, name: &str, body: &str) -> Result<()> {
    let source = lab.folder().join(format!("{name}.c"));
    // Aside, and then in its place at once, as an operator does who installs a new version.
    let (aside, object) = (lab.folder().join("aside"), lab.folder().join(format!("{name}.o")));
    fs::write(&source, format!("{HEAD}{body}\n"))?;
    let ebpf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?.join("ebpf");
    zsync_ebpf_build::compile_c(&ebpf, &source, &aside)?;
    Ok(fs::rename(aside, object)?)
}

/// A program of that name, in a file of that name, that gives every packet this verdict.
fn returning(lab: &Lab, name: &str, verdict: &str) -> Result<()> {
    compile(lab, name, &format!("SEC(\"xdp\") int {name}(struct xdp_md *ctx) {{ return {verdict}; }}"))
}

/// A router with these programs on the port to the client.
fn router(programs: &str) -> String {
    format!(
        "[port.wan]\nnetdev = \"eth1\"\nxdp = [{programs}]\n\n[port.lan]\nnetdev = \"eth2\"\n\n\
         [pipeline.forward]\ninput = [\"wan\", \"lan\"]\nstages = [\"route\"]\n"
    )
}

fn rows(control: &Control<'_>) -> Result<Vec<Value>> {
    let answer = control.ctl(&["show", "xdp"])?;
    answer.as_array().cloned().with_context(|| format!("no rows: {answer}"))
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("{key} of {row}"))
}

/// What a program was given is what it gave a verdict on.
fn adds_up(row: &Value) -> Result<()> {
    let verdicts = [
        "passed-on",
        "dropped",
        "to-kernel",
        "transmitted",
        "redirected",
        "aborted",
        "no-verdict",
        "not-entered",
    ];
    let sum: u64 = verdicts.iter().map(|key| number(row, key)).sum();
    ensure!(number(row, "entered") == sum, "{row}");
    Ok(())
}

/// A flow from the client, over IPv4 (0) or IPv6 (1).
fn flow(lab: &Lab, version: usize, rate: u32, source: u16, target: u16, payload: usize) -> Result<Flow> {
    let source = SocketAddr::new(lab.client_addresses[version], source);
    let target = SocketAddr::new(lab.server_addresses[version], target);
    Flow::start(&lab.client, &lab.server, FlowPlan { rate, source, target, payload })
}

fn reaches(lab: &Lab) -> Result<()> {
    for (source, target) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
        let outcome = ping_with(&lab.client, target, 3, &["-I", &source.to_string()])?;
        ensure!(outcome.all(), "{outcome:?}");
    }
    Ok(())
}

fn refusal(result: Result<Value>) -> Result<String> {
    match result {
        Ok(answer) => anyhow::bail!("it was not refused: {answer}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[test]
fn both_examples_do_what_they_say() {
    in_lab(Shape::router(), |lab| {
        fs::copy(AMPLIFIED, lab.folder().join("amplified.o"))?;
        fs::copy(LIMIT, lab.folder().join("limit.o"))?;
        let both = |limit| {
            router(&format!(
                "{{ object = \"amplified.o\", program = \"amplified\", params = {{ longest = 200 }} }}, \
                 {{ object = \"limit.o\", program = \"limit_sources\", params = {{ limit = {limit} }} }}"
            ))
        };
        let control = Control::start(lab, &both(1_000_000))?;
        reaches(lab)?;
        // Within all limits.
        let quiet = [flow(lab, 0, 5000, 0, 7000, 64)?, flow(lab, 1, 5000, 0, 7001, 64)?];
        // An answer of a DNS server that nobody asked, short and long; and as long from elsewhere.
        let wanted = [
            flow(lab, 0, 200, 53, 7002, 100)?,
            flow(lab, 1, 200, 123, 7003, 100)?,
            flow(lab, 0, 200, 54, 7004, 1000)?,
        ];
        let unwanted = [flow(lab, 0, 200, 11211, 7005, 1000)?, flow(lab, 1, 200, 53, 7006, 500)?];
        std::thread::sleep(Duration::from_secs(1));
        let mut dropped = 0;
        for flow in unwanted {
            let report = flow.finish()?;
            ensure!(report.sent() > 50 && report.received() == 0, "{report}");
            dropped += report.sent();
        }
        for flow in quiet.into_iter().chain(wanted) {
            let report = flow.finish()?;
            ensure!(report.sent() > 50 && report.lost() == 0, "{report}");
        }
        let [first, second] = &rows(&control)?[..] else { anyhow::bail!("{:?}", rows(&control)) };
        ensure!(number(first, "dropped") == dropped, "{first}");
        ensure!(first["program"] == "amplified" && first["params"]["longest"] == 200, "{first}");
        ensure!(second["program"] == "limit_sources" && second["slot"] == 2, "{second}");
        ensure!(number(first, "passed-on") == number(second, "entered"), "{first} {second}");
        ensure!(number(second, "entered") == number(second, "passed-on") && number(second, "entered") > 5000);
        [first, second].into_iter().try_for_each(adds_up)?;

        // A lower limit, while it runs.
        let applied = control.apply(&both(500), &[])?;
        ensure!(applied["respawned"] == false, "{applied}");
        for version in [0, 1] {
            // What is left of a second that began before.
            std::thread::sleep(Duration::from_millis(1100));
            let loud = flow(lab, version, 5000, 0, 7010, 64)?;
            std::thread::sleep(Duration::from_secs(2));
            let report = loud.finish()?;
            let most = 500 * (2 + report.sent() / 5000 + 1);
            ensure!(report.received() >= 500 && report.received() <= most, "IPv{version}: {report}");
        }
        rows(&control)?.iter().try_for_each(adds_up)?;
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn programs_are_replaced_under_traffic_without_a_loss() {
    in_lab(Shape::router(), |lab| {
        for name in ["one", "two", "three"] {
            returning(lab, name, "zsync_pass_on(ctx)")?;
        }
        let control = Control::start(lab, &router("\"one.o:one\", \"two.o:two\""))?;
        reaches(lab)?;
        let first = rows(&control)?;
        let flows = [flow(lab, 0, 10_000, 0, 7000, 64)?, flow(lab, 1, 10_000, 0, 7001, 64)?];
        for round in 0..6 {
            // The same path with other contents: the configuration's text is as it was.
            returning(
                lab,
                "two",
                &format!("ctx->rx_queue_index > {round}77 ? XDP_DROP : zsync_pass_on(ctx)"),
            )?;
            let plan = control.ctl(&["plan", &lab.folder().join("zsync.toml").to_string_lossy()])?;
            ensure!(plan.to_string().contains("two.o:two has other contents"), "{plan}");
            let applied = control.apply(&router("\"one.o:one\", \"two.o:two\""), &[])?;
            ensure!(applied["changes"].to_string().contains("other contents"), "{applied}");
            ensure!(applied["respawned"] == false, "{applied}");
        }
        let last = rows(&control)?;
        ensure!(first[0]["fingerprint"] == last[0]["fingerprint"], "the other one was loaded anew: {last:?}");
        ensure!(first[1]["fingerprint"] != last[1]["fingerprint"], "{last:?}");
        // One more, another order, one less, none, and all again.
        for programs in [
            "\"one.o:one\", \"three.o:three\", \"two.o:two\"",
            "\"two.o:two\", \"three.o:three\", \"one.o:one\"",
            "\"two.o:two\"",
            "",
            "\"one.o:one\", \"two.o:two\"",
        ] {
            control.apply(&router(programs), &[])?;
            std::thread::sleep(Duration::from_millis(100));
            ensure!(rows(&control)?.len() == programs.matches(".o:").count(), "{:?}", rows(&control));
        }
        for flow in flows {
            let report = flow.finish()?;
            ensure!(report.sent() > 10_000, "{report}");
            ensure!(report.lost() == 0 && report.duplicated() == 0 && report.reordered() == 0, "{report}");
        }
        for row in rows(&control)? {
            adds_up(&row)?;
            ensure!(number(&row, "entered") == number(&row, "passed-on"), "{row}");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_refused_program_leaves_the_old_one_and_shows_the_log() {
    in_lab(Shape::router(), |lab| {
        returning(lab, "scrub", "zsync_pass_on(ctx)")?;
        let chain = router("\"scrub.o:scrub\"");
        let control = Control::start(lab, &chain)?;
        reaches(lab)?;
        let (before, hash) = (rows(&control)?, control.status()?["config"]["hash"].clone());
        let flow = flow(lab, 0, 10_000, 0, 7000, 64)?;
        let beyond = "SEC(\"xdp\") int scrub(struct xdp_md *ctx) { return *(char *)(long)ctx->data; }";
        compile(lab, "scrub", beyond)?;
        let file = lab.folder().join("zsync.toml");
        let file = file.to_string_lossy();
        for said in [
            refusal(control.apply(&chain, &[]))?,
            refusal(control.ctl(&["plan", &file]))?,
            refusal(control.ctl(&["check", &file]))?,
        ] {
            for words in ["scrub.o:scrub", "verifier", "invalid access to packet", "R1"] {
                ensure!(said.contains(words), "{words:?} is missing from: {said}");
            }
        }
        // As people see it: line by line.
        let mut command = Command::new(zsync_tests::binary::binary("zsyncctl")?);
        command.arg("--socket").arg(run_dir(lab).join("api.sock")).args(["apply", &file]);
        let said = format!("{:#}", execute(&mut command).err().context("it was not refused")?);
        ensure!(said.lines().any(|line| line.starts_with("invalid access to packet")), "{said}");
        ensure!(said.contains("is in force again"), "{said}");

        let after = rows(&control)?;
        ensure!(after.len() == 1 && after[0]["fingerprint"] == before[0]["fingerprint"], "{after:?}");
        ensure!(control.status()?["config"]["hash"] == hash, "{}", control.status()?);
        let report = flow.finish()?;
        ensure!(report.sent() > 1000 && report.lost() == 0, "{report}");
        let known = number(&rows(&control)?[0], "entered");
        ensure!(known >= report.sent(), "{known}: {report}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn what_cannot_be_is_refused_with_the_remedy() {
    in_lab(Shape::router(), |lab| {
        returning(lab, "scrub", "zsync_pass_on(ctx)")?;
        compile(lab, "tc", "SEC(\"tc\") int classify(struct __sk_buff *skb) { return 0; }")?;
        fs::write(lab.folder().join("text.o"), "no object")?;
        let nine: Vec<String> = (0..9).map(|n| format!("\"{n}.o:x\"")).collect();
        let wrong = [
            ("\"none.o:scrub\"".to_owned(), vec!["port wan", "none.o", "No such file"]),
            ("\"../../none.o:scrub\"".to_owned(), vec!["none.o", "No such file"]),
            ("\"text.o:scrub\"".to_owned(), vec!["text.o", "no object file", "clang"]),
            ("\"tc.o:classify\"".to_owned(), vec!["section \"tc\"", "section \"xdp\""]),
            ("\"scrub.o:srub\"".to_owned(), vec!["\"srub\"", "did you mean \"scrub\"?"]),
            (
                "{ object = \"scrub.o\", program = \"scrub\", params = { limit = 1 } }".to_owned(),
                vec!["\"limit\"", "global variable"],
            ),
            ("{ object = \"scrub.o\", progam = \"scrub\" }".to_owned(), vec!["`progam`", "program"]),
            ("\"scrub.o\"".to_owned(), vec!["names no program", "ddos.o:scrub"]),
            ("\"scrub.o:scrub\", \"scrub.o:scrub\"".to_owned(), vec!["twice"]),
            (nine.join(", "), vec!["9 entries", "0 to 8"]),
        ];
        let devices = lab.router.ip("-o -d link show")?;
        for (programs, words) in &wrong {
            let said = Control::refused(lab, &router(programs), &[])?.said;
            for word in words {
                ensure!(said.contains(word), "{word:?} is missing from: {said}");
            }
            ensure!(pins(lab).is_empty() && lab.router.ip("-o -d link show")? == devices, "{programs}");
        }
        let control = Control::start(lab, &router(""))?;
        for (programs, words) in &wrong {
            let said = refusal(control.apply(&router(programs), &[]))?;
            for word in words {
                ensure!(said.contains(word), "{word:?} is missing from: {said}");
            }
        }
        // What others could change is nobody's filter.
        std::os::unix::fs::chown(lab.folder().join("scrub.o"), Some(65534), None)?;
        let said = refusal(control.apply(&router("\"scrub.o:scrub\""), &[]))?;
        ensure!(said.contains("belongs to user 65534"), "{said}");
        ensure!(rows(&control)?.is_empty(), "{:?}", rows(&control));
        reaches(lab)
    });
}

#[test]
fn a_program_that_forgets_to_pass_on_is_seen() {
    in_lab(Shape::router(), |lab| {
        returning(lab, "forgets", "XDP_PASS")?;
        returning(lab, "after", "zsync_pass_on(ctx)")?;
        let control = Control::start(lab, &router("\"forgets.o:forgets\", \"after.o:after\""))?;
        // The kernel forwards in our stead.
        reaches(lab)?;
        let [forgets, after] = &rows(&control)?[..] else { anyhow::bail!("{:?}", rows(&control)) };
        ensure!(number(forgets, "to-kernel") >= 6, "{forgets}");
        ensure!(number(forgets, "entered") == number(forgets, "to-kernel"), "{forgets}");
        ensure!(number(forgets, "passed-on") == 0 && number(after, "entered") == 0, "{forgets} {after}");
        let mut command = Command::new(zsync_tests::binary::binary("zsyncctl")?);
        command.arg("--socket").arg(run_dir(lab).join("api.sock")).args(["show", "xdp"]);
        let text = execute(&mut command)?;
        ensure!(text.contains("warning: wan: forgets: none of") && text.contains("zsync_pass_on"), "{text}");
        // Mended, while it runs.
        returning(lab, "forgets", "zsync_pass_on(ctx)")?;
        control.apply(&router("\"forgets.o:forgets\", \"after.o:after\""), &[])?;
        reaches(lab)?;
        ensure!(number(&rows(&control)?[1], "passed-on") >= 6, "{:?}", rows(&control));
        ensure!(!execute(&mut command)?.contains("warning"), "{}", execute(&mut command)?);
        control.balanced()?;
        Ok(())
    });
}

/// A filter of one source, and the same with a number in it, so that its contents differ.
fn guard(lab: &Lab, number: u32) -> Result<()> {
    let body = format!(
        "SEC(\"xdp\") int guard(struct xdp_md *ctx) {{\n\
         unsigned char *p = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;\n\
         if (p + 38 <= end && p[12] == 8 && p[13] == 0 && p[29] == 66) return XDP_DROP;\n\
         if (p + 38 <= end && p[12] == 0x86 && p[37] == 0x66) return XDP_DROP;\n\
         return ctx->rx_queue_index == {number} ? XDP_DROP : zsync_pass_on(ctx); }}"
    );
    compile(lab, "guard", &body)
}

#[test]
fn a_chain_outlives_either_process_and_goes_with_the_stop() {
    in_lab(Shape::router(), |lab| {
        lab.client.ip("addr add 10.1.0.66/24 dev eth0")?;
        lab.client.ip("addr add fd01::66/64 dev eth0 nodad")?;
        guard(lab, 1001)?;
        let chain = router("\"guard.o:guard\"");
        let mut control = Control::start(lab, &chain)?;
        reaches(lab)?;
        let first = rows(&control)?[0]["fingerprint"].clone();
        let flows = [flow(lab, 0, 10_000, 0, 7000, 64)?, flow(lab, 1, 5000, 0, 7001, 64)?];
        let mut blocked = Vec::new();
        for (source, target, port) in
            [("10.1.0.66", lab.server_addresses[0], 7002), ("fd01::66", lab.server_addresses[1], 7003)]
        {
            let (source, target) = (SocketAddr::new(source.parse()?, 0), SocketAddr::new(target, port));
            blocked.push(Flow::start(
                &lab.client,
                &lab.server,
                FlowPlan { rate: 1000, source, target, payload: 64 },
            )?);
        }
        let dataplane = control.dataplane()?;
        let mut entered = 0;
        for round in 0..10 {
            if round == 5 {
                // What is in force does not need its file any more.
                fs::remove_file(lab.folder().join("guard.o"))?;
            }
            control.kill9()?;
            std::thread::sleep(Duration::from_millis(30));
            control.revive()?;
            control.wait_ready()?;
            let row = &rows(&control)?[0];
            ensure!(row["fingerprint"] == first && row["program"] == "guard", "{row}");
            ensure!(number(row, "entered") > entered, "the counters began anew: {row}");
            entered = number(row, "entered");
        }
        ensure!(control.dataplane()? == dataplane, "the data plane was not adopted");
        for flow in flows {
            let report = flow.finish()?;
            ensure!(report.sent() > 1000 && report.lost() == 0, "kills of control: {report}");
        }
        for _ in 0..5 {
            let killed = control.kill9_dataplane()?;
            control.wait_successor(killed)?;
            reaches(lab)?;
        }
        // Both, and then another version.
        control.kill9_dataplane()?;
        control.kill9()?;
        control.revive()?;
        control.wait_ready()?;
        reaches(lab)?;
        ensure!(rows(&control)?[0]["fingerprint"] == first, "{:?}", rows(&control));
        guard(lab, 1002)?;
        control.apply(&chain, &[])?;
        ensure!(rows(&control)?[0]["fingerprint"] != first, "{:?}", rows(&control));
        for flow in blocked {
            let report = flow.finish()?;
            ensure!(report.sent() > 1000 && report.received() == 0, "from a blocked source: {report}");
        }
        ensure!(number(&rows(&control)?[0], "dropped") > 2000, "{:?}", rows(&control));
        control.balanced()?;
        control.stop()?;
        ensure!(pins(lab).is_empty(), "{:?} were left", pins(lab));
        ensure!(!lab.router.ip("-o -d link show")?.contains("xdp"), "{}", lab.router.ip("-o -d link show")?);
        Ok(())
    });
}

#[test]
fn what_is_taken_back_is_what_was_there() {
    in_lab(Shape::router(), |lab| {
        guard(lab, 1001)?;
        let chain = router("\"guard.o:guard\"");
        let control = Control::start(lab, &chain)?;
        reaches(lab)?;
        let running = || Ok::<_, anyhow::Error>(rows(&control)?[0]["fingerprint"].clone());
        let first = running()?;
        // The same text; only the file has other contents, and nobody confirms it.
        returning(lab, "guard", "XDP_DROP")?;
        control.apply(&chain, &["--confirm", "1s"])?;
        ensure!(
            running()? != first && !ping(&lab.client, lab.server_addresses[0], 1)?.all(),
            "{}",
            running()?
        );
        wait_for("the change to be taken back", Duration::from_secs(4), || {
            (running().ok()? == first).then_some(())
        })?;
        reaches(lab)?;
        // Kept, and then rolled back to by its number.
        let kept = control.status()?["config"]["number"].clone();
        control.apply(&chain, &[])?;
        ensure!(running()? != first, "{}", running()?);
        control.ctl(&["rollback", &kept.to_string()])?;
        ensure!(running()? == first, "{}", running()?);
        reaches(lab)?;
        // A change that reopens the sockets keeps the programs; one that cannot be, too.
        let before = number(&rows(&control)?[0], "entered");
        guard(lab, 1001)?;
        control.apply(&chain.replace("netdev = \"eth1\"", "netdev = \"eth1\"\nring-size = 1024"), &[])?;
        reaches(lab)?;
        ensure!(
            running()? == first && number(&rows(&control)?[0], "entered") > before,
            "{:?}",
            rows(&control)
        );
        fs::write(lab.folder().join("guard.o"), "no object")?;
        refusal(
            control.apply(&chain.replace("netdev = \"eth1\"", "netdev = \"eth1\"\nring-size = 2048"), &[]),
        )?;
        ensure!(running()? == first, "{:?}", rows(&control));
        reaches(lab)?;
        control.balanced()?;
        Ok(())
    });
}
