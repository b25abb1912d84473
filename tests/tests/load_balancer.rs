//! The shipped load balancer on real traffic: connections are spread, follow what health checks say, and outlive changes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::http::{Web, get_times};
use zsync_tests::{Control, Lab, Shape, in_lab, wait_for};

/// The example, as it is shipped: its devices are the lab's.
const BALANCER: &str = include_str!("../../pipelines/examples/load-balancer.toml");

/// The site's addresses.
const SITE: [&str; 2] = ["198.51.100.80:80", "[2001:db8:80::80]:80"];
/// The servers of each family, in the lab.
const SERVERS: [[&str; 2]; 2] =
    [["10.2.0.11:8080", "10.2.0.12:8080"], ["[fd02::11]:8080", "[fd02::12]:8080"]];

/// The example for the lab: the servers are addresses of the server, and are checked three times a second.
fn balancer(lab: &Lab) -> Result<String> {
    for last in [11, 12] {
        lab.server.ip(&format!("addr add 10.2.0.{last}/24 dev eth0"))?;
        lab.server.ip(&format!("addr add fd02::{last}/64 dev eth0 nodad"))?;
    }
    Ok(BALANCER
        .replace("192.0.2.", "10.2.0.")
        .replace("2001:db8:2::", "fd02::")
        .replace("interval = \"2s\", timeout = \"1s\"", "interval = \"300ms\", timeout = \"300ms\""))
}

fn address(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| text.to_owned())
}

/// How many of so many new connections each server got.
fn asked(lab: &Lab, site: &str, times: usize) -> Result<BTreeMap<String, usize>> {
    let mut pages = BTreeMap::new();
    for page in get_times(&lab.client, address(site)?, times)? {
        *pages.entry(page).or_default() += 1;
    }
    Ok(pages)
}

/// Waits until the checks say of a server that it is so.
fn becomes(control: &Control<'_>, server: &str, state: &str) -> Result<()> {
    let said = || {
        let rows = control.ctl(&["show", "backends"]).ok()?;
        let row = rows.as_array()?.iter().find(|row| row["backend"] == server)?.clone();
        (row["state"] == state && row["checked-ms"].is_u64()).then_some(())
    };
    let waited = wait_for(&format!("{server} to be {state}"), Duration::from_secs(6), said);
    waited.with_context(|| format!("{:?}", control.ctl(&["show", "backends"])))
}

#[test]
fn connections_are_spread_and_a_dead_server_is_left_out() {
    in_lab(Shape::router(), |lab| {
        let config = balancer(lab)?;
        let mut webs = BTreeMap::new();
        for server in SERVERS.concat() {
            webs.insert(server, Web::serve(lab, &lab.server, address(server)?, server)?);
        }
        let control = Control::start(lab, &config)?;
        for server in SERVERS.concat() {
            becomes(&control, server, "up")?;
        }
        for (site, servers) in SITE.into_iter().zip(SERVERS) {
            let pages = asked(lab, site, 40)?;
            println!("{site}: {pages:?}");
            // One of weight 1 and one of weight 2: neither is left out.
            ensure!(
                servers.iter().all(|server| pages.get(*server).is_some_and(|count| *count >= 4)),
                "{pages:?}"
            );
        }
        // The servers see the clients themselves.
        for (version, server) in [(0, "10.2.0.11:8080"), (1, "[fd02::11]:8080")] {
            let clients = webs[server].clients();
            let client = lab.client_addresses[version].to_string();
            ensure!(clients.contains(&client), "{server}: {clients:?}");
        }
        for (site, servers) in SITE.into_iter().zip(SERVERS) {
            let [first, second] = servers;
            drop(webs.remove(second));
            becomes(&control, second, "down")?;
            let pages = asked(lab, site, 15)?;
            ensure!(pages.get(first) == Some(&15), "{second} is down: {pages:?}");
            webs.insert(second, Web::serve(lab, &lab.server, address(second)?, second)?);
            becomes(&control, second, "up")?;
            // Its part of the table is filled a little at a time, while packets come.
            wait_for("new connections to whom is back", Duration::from_secs(5), || {
                asked(lab, site, 10).ok()?.contains_key(second).then_some(())
            })?;
        }
        for (packet, verdict) in [
            ("tcp 10.1.0.2:40000 -> 198.51.100.80:80", "transmit by lan"),
            ("tcp [fd01::2]:40000 -> [2001:db8:80::80]:80", "transmit by lan"),
        ] {
            let explained = control.verdict("wan", packet)?;
            ensure!(explained == verdict, "{packet}: {explained}");
        }
        control.balanced()?;
        Ok(())
    });
}

/// Waits for a connection at one of several servers: which.
fn accepted(listeners: &[TcpListener]) -> Result<(usize, TcpStream)> {
    let (which, stream) = wait_for("a connection", Duration::from_secs(3), || {
        listeners.iter().enumerate().find_map(|(which, listener)| Some((which, listener.accept().ok()?.0)))
    })?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    Ok((which, stream))
}

/// A connection to the site, the server's end of it, and which server that is.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    which: usize,
}

impl Pair {
    fn open(lab: &Lab, site: &str, listeners: &[TcpListener]) -> Result<Self> {
        let site = address(site)?;
        let client = lab
            .client
            .run(|| TcpStream::connect_timeout(&site, Duration::from_secs(3)).context("connecting"))?;
        client.set_read_timeout(Some(Duration::from_secs(3)))?;
        let (which, server) = accepted(listeners)?;
        Ok(Self { client, server, which })
    }

    /// Whether words get through, both ways.
    fn talks(&mut self) -> Result<()> {
        let mut word = [0; 4];
        self.client.write_all(b"ping")?;
        self.server.read_exact(&mut word).context("from the client")?;
        self.server.write_all(b"pong")?;
        self.client.read_exact(&mut word).context("from the server")?;
        ensure!(&word == b"pong");
        Ok(())
    }
}

#[test]
fn connections_stay_where_they_are_while_servers_come_and_go() {
    in_lab(Shape::router(), |lab| {
        let config = balancer(lab)?;
        let (unchecked, _) = config.split_once("health ").context("the example checks health")?;
        let config = format!("{unchecked}\n[route.main]\n");
        let without = |server: &str| {
            let (ip, _) = server.rsplit_once(':').unwrap_or((server, ""));
            let ip = format!("\"{}\"", ip.trim_matches(['[', ']']));
            config.lines().filter(|line| !line.contains(&ip)).collect::<Vec<_>>().join("\n")
        };
        let control = Control::start(lab, &config)?;
        for (site, servers) in SITE.into_iter().zip(SERVERS) {
            let listeners = lab.server.run(|| {
                let listen = |server: &&str| {
                    let listener = TcpListener::bind(address(server)?)?;
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                };
                servers.iter().map(listen).collect::<Result<Vec<_>>>()
            })?;
            let open = || Pair::open(lab, site, &listeners);
            let mut pairs = (0..30).map(|_| open()).collect::<Result<Vec<_>>>()?;
            for which in [0, 1] {
                ensure!(pairs.iter().any(|pair| pair.which == which), "{} got none", servers[which]);
            }
            for (gone, left) in [(0, 1), (1, 0)] {
                let applied = control.apply(&without(servers[gone]), &[])?;
                ensure!(applied["respawned"] == false, "{applied}");
                pairs.iter_mut().try_for_each(Pair::talks).context("after a server was taken out")?;
                let fresh = (0..10).map(|_| open()).collect::<Result<Vec<_>>>()?;
                ensure!(
                    fresh.iter().all(|pair| pair.which == left),
                    "{} got a new connection",
                    servers[gone]
                );
                control.apply(&config, &[])?;
                pairs.iter_mut().try_for_each(Pair::talks).context("after it came back")?;
            }
            // Drained by hand: the same, with no configuration changed.
            control.ctl(&["drain", servers[0]])?;
            let fresh = (0..10).map(|_| open()).collect::<Result<Vec<_>>>()?;
            ensure!(fresh.iter().all(|pair| pair.which == 1), "{} is drained", servers[0]);
            pairs.iter_mut().try_for_each(Pair::talks).context("after a drain")?;
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn servers_that_have_the_address_themselves_get_packets_as_they_are() {
    in_lab(Shape::router(), |lab| {
        let config = balancer(lab)?.replace("= \"nat\"", "= \"direct\"").replace(", port = 8080", "");
        lab.server.ip("addr add 198.51.100.80/32 dev lo")?;
        lab.server.ip("addr add 2001:db8:80::80/128 dev lo nodad")?;
        let web = Web::serve(lab, &lab.server, address("[::]:80")?, "direct")?;
        let control = Control::start(lab, &config)?;
        for server in ["10.2.0.11", "10.2.0.12", "fd02::11", "fd02::12"] {
            becomes(&control, server, "up")?;
        }
        for (site, client) in SITE.into_iter().zip(["::ffff:10.1.0.2", "fd01::2"]) {
            let pages = asked(lab, site, 10)?;
            ensure!(pages.get("direct") == Some(&10), "{site}: {pages:?}");
            let of_client = web.clients().into_iter().filter(|other| other == client).count();
            ensure!(of_client == 10, "{site}: {:?}", web.clients());
        }
        let rows = control.ctl(&["show", "backends"])?;
        ensure!(rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["flows"].is_u64())), "{rows}");
        let explained = control.verdict("wan", "tcp 10.1.0.2:40000 -> 198.51.100.80:80")?;
        ensure!(explained == "transmit by lan", "{explained}");
        control.balanced()?;
        Ok(())
    });
}
