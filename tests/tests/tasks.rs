//! `zsyncctl show tasks`: what waits beside the packets of each worker, told by the data plane in its sandbox.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use zsync_tests::{Control, Shape, in_lab, ping};

/// Two workers track flows and meter them.
const EDGE: &str = r#"
[engine]
workers = 2
[port.lan]
netdev = "eth1"
queues = 2
[port.wan]
netdev = "eth2"
queues = 2
[pipeline.edge]
input  = ["lan", "wan"]
stages = ["track.flows", "route.main"]
[track.flows]
[route.main]
"#;

fn list<'v>(value: &'v Value, key: &str) -> Result<&'v Vec<Value>> {
    value[key].as_array().with_context(|| format!("no {key}: {value}"))
}

/// What tasks wait for, as many as there are below `worker`.
fn waits(worker: &Value) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for task in list(worker, "tasks")? {
        for wait in task["waits"].as_array().into_iter().flatten() {
            all.push(wait["what"].as_str().context("no text")?.to_owned());
        }
    }
    Ok(all)
}

#[test]
fn each_worker_tells_what_waits_for_what_and_goes_on() {
    in_lab(Shape::router().queues(2), |lab| {
        let mut control = Control::start(lab, EDGE)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        for round in 0..2 {
            let answer = control.ctl(&["show", "tasks"])?;
            let workers = list(&answer, "workers")?;
            ensure!(workers.len() == 2, "{answer}");
            for (number, worker) in workers.iter().enumerate() {
                ensure!(worker["worker"] == number && worker["left-out"] == 0, "{worker}");
                let tasks = list(worker, "tasks")?;
                ensure!(tasks[0]["depth"] == 0 && tasks[1]["depth"] == 1, "no tree: {worker}");
                ensure!(tasks.iter().all(|task| task["state"] == "waits"), "{worker}");
                let waits = waits(worker)?;
                ensure!(waits.iter().any(|wait| wait.starts_with("flows to be forgotten (")), "{waits:?}");
                ensure!(waits.iter().any(|wait| wait.starts_with("time to pass (")), "{waits:?}");
            }
            ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way after round {round}");
            if round == 0 {
                // A successor has tasks of its own.
                let old = control.kill9_dataplane()?;
                control.wait_successor(old)?;
            }
        }
        control.balanced()?;
        Ok(())
    });
}
