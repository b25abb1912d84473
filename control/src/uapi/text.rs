//! A configuration's text, changed so that it says what `wg` asked for, and everything else as it said it.

use anyhow::{Context as _, Result};
use toml_edit::{Array, DocumentMut, Item, TableLike, Value};
use zsync_pipelines::spec::wireguard::{PeerSpec, WireguardSpec};

/// What configurations are called that `wg` has changed, behind the name of the file that they came from.
const BY_WG: &str = " (changed by wg)";

/// What a configuration is called once `wg` has changed that of `file`.
#[must_use]
pub fn name(file: &str) -> String {
    format!("{}{BY_WG}", file.strip_suffix(BY_WG).unwrap_or(file))
}

/// `source`, with the section of `end` as `new` has it, where they differ.
///
/// # Errors
/// It is no TOML, or has no such section: it is not what `end` was read from.
pub fn changed(source: &str, end: &WireguardSpec, new: &WireguardSpec) -> Result<String> {
    let mut document: DocumentMut = source.parse().context("the configuration in force is no TOML")?;
    let section = section(&mut document, &end.name)
        .with_context(|| format!("the configuration in force has no [wireguard.{}]", end.name))?;
    let mut put = |key: &str, value: Value| match section.get_mut(key) {
        // What stands around it stays.
        Some(Item::Value(old)) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        _ => drop(section.insert(key, Item::Value(value))),
    };
    if new.private_key.path != end.private_key.path {
        put("private-key-file", new.private_key.path.as_str().into());
    }
    if new.listen_port != end.listen_port {
        put("listen-port", i64::from(new.listen_port).into());
    }
    if new.peers != end.peers {
        put("peers", peers(&new.peers)?.into());
    }
    Ok(document.to_string())
}

fn section<'d>(document: &'d mut DocumentMut, name: &str) -> Option<&'d mut dyn TableLike> {
    document.get_mut("wireguard")?.as_table_like_mut()?.get_mut(name)?.as_table_like_mut()
}

/// One a line.
fn peers(peers: &[PeerSpec]) -> Result<Array> {
    let mut array = Array::new();
    for peer in peers {
        let mut value: Value = peer.text().parse().context("a peer is no TOML")?;
        value.decor_mut().set_prefix("\n    ");
        array.push_formatted(value);
    }
    if !peers.is_empty() {
        array.set_trailing_comma(true);
        array.set_trailing("\n");
    }
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_pipelines::spec::parse;
    use zsync_pipelines::spec::wireguard::ends;
    use zsync_wireguard::key::{PublicKey, Secret};

    const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    const REST: &str = "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"wireguard-open.w\", \"wireguard-seal.w\", \"route\"]\n";

    fn end(source: &str) -> WireguardSpec {
        let parsed = parse(source, "w.toml").unwrap_or_else(|errors| panic!("{source}\n{errors:?}"));
        ends(&parsed.spec)["w"].clone()
    }

    /// However the section is written, it says the new thing, and the rest is as it was.
    #[test]
    fn every_form_of_a_section_is_changed() {
        let table = format!("public-key = \"{KEY}\"\nallowed-ips = [\"10.0.0.0/8\"]");
        let inline = table.replace('\n', ", ");
        for section in [
            format!(
                "# before\n[wireguard.w] # the gateway\nprivate-key-file = \"k\" # ours\nmtu = 1400\npeers = [{{ {inline} }}] # all\n"
            ),
            "[wireguard]\nw = { private-key-file = \"k\", mtu = 1400 }\n".to_owned(),
            "[wireguard]\nw.private-key-file = \"k\"\nw.mtu = 1400\n".to_owned(),
            "wireguard = { w = { private-key-file = \"k\", mtu = 1400 } }\n".to_owned(),
            format!("[wireguard.w]\nmtu = 1400\nprivate-key-file = 'k'\n[[wireguard.w.peers]]\n{table}\n"),
            "wireguard.w.private-key-file = \"k\"\nwireguard.w.mtu = 1400\n".to_owned(),
        ] {
            let source = format!("{section}\n{REST}# the end\n");
            let before = end(&source);
            assert_eq!(changed(&source, &before, &before).unwrap(), source);
            let peer = |byte: u8| PeerSpec {
                public_key: PublicKey([byte; 32]),
                preshared: None,
                endpoint: "[2001:db8::1]:7".parse().ok(),
                allowed_ips: vec![format!("fd0{byte}::/16").parse().unwrap()],
                keepalive: 25,
            };
            let new = WireguardSpec { listen_port: 7, peers: vec![peer(1), peer(2)], ..before.clone() };
            let text = changed(&source, &before, &new).unwrap();
            let mut read = end(&text);
            // Two more fit.
            read.max_peers = new.max_peers;
            assert_eq!(read, new, "{text}");
            assert!(text.contains("1400") && text.ends_with("# the end\n"), "{text}");
            for comment in ["# before", "# the gateway", "# ours", "# all"] {
                assert_eq!(source.contains(comment), text.contains(comment), "{text}");
            }
            let mut other = before.clone();
            other.private_key.path = "/var/lib/\"x\"/k".to_owned();
            other.private_key.secret = Some(Secret::new([7; 32]));
            other.peers.clear();
            let text = changed(&source, &before, &other).unwrap();
            other.private_key.secret = None;
            assert_eq!(end(&text), other, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_changed() {
        let before = end(&format!("{REST}[wireguard.w]\nprivate-key-file = \"k\"\n"));
        assert!(changed("[wireguard", &before, &before).is_err());
        assert!(
            changed("[wireguard.v]\n", &before, &before).unwrap_err().to_string().contains("wireguard.w")
        );
    }

    #[test]
    fn a_name_says_once_that_wg_was_there() {
        let once = name("/etc/zsync/zsync.toml");
        assert_eq!(once, "/etc/zsync/zsync.toml (changed by wg)");
        assert_eq!(name(&once), once);
    }
}
