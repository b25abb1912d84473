//! What `show mappings` shows: who is seen as whom, and how public addresses are used.
//!
//! Only reads what the workers write. Keeps true: what is shown of a mapping was true of it.

use super::blocks::nats;
use super::core::{Daemon, ReplyTo};
use super::flows::{end, ends_asked_for, is_asked, known, protocol_name};
use super::looks::slices;
use crate::api::{AddressRow, Answer, MappingRow, MappingTable, Mappings, RouteFilter, Show};
use std::collections::BTreeMap;
use std::net::IpAddr;
use zsync_pipelines::spec::NatSpec;
use zsync_pipelines::stages::nat;
use zsync_pipelines::tables::nat::{BlockLog, Mapping, NatView};

/// One stage's tables, by worker.
#[derive(Debug)]
struct Table {
    stage: String,
    /// Ports of a block; 0 for none.
    block: u16,
    /// Blocks of an address.
    blocks: u64,
    views: Vec<NatView>,
}

/// Mappings and blocks of an address.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    mappings: u64,
    blocks: u64,
}

impl Daemon {
    /// Answers `show mappings`.
    pub(super) fn show_mappings(&self, show: &Show, reply: ReplyTo) {
        let asked = ends_asked_for(show).and_then(|address| {
            known(show, "nat", nats(&self.config.spec).map(|(label, _)| label)).map(|()| address)
        });
        let address = match asked {
            Ok(address) => address,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let mut tables = Vec::new();
        for (label, spec) in nats(&self.config.spec).filter(|(label, _)| is_asked(show, label)) {
            let Some(state) = self.states.state(label) else { continue };
            let views = (0..state.workers()).filter_map(|worker| nat::view(spec, state, worker)).collect();
            tables.push(Table { views, ..table(label, spec) });
        }
        self.looks.answer(reply, gather(tables, address, show.rows()));
    }
}

fn table(stage: &str, spec: &NatSpec) -> Table {
    // As if one worker had them all.
    let ports = nat::ports(spec, (0, 1));
    let blocks = u64::from(ports.like(0).count()) + u64::from(ports.high().count());
    Table { stage: stage.to_owned(), block: spec.block, blocks, views: Vec::new() }
}

async fn gather(tables: Vec<Table>, address: Option<RouteFilter>, rows: usize) -> Answer {
    let mut answer = Mappings::default();
    let is_asked =
        |ends: [IpAddr; 2]| address.is_none_or(|filter| ends.into_iter().any(|end| filter.has(end)));
    for Table { stage, block, blocks, views } in &tables {
        let mut used: BTreeMap<IpAddr, Used> = BTreeMap::new();
        let mut whole = MappingTable { stage: stage.clone(), block: *block, ..MappingTable::default() };
        for (worker, view) in (0..).zip(views) {
            let (mappings, limit) = view.mappings();
            whole.mappings += u64::from(mappings);
            whole.limit += u64::from(limit);
            whole.log_lost = whole.log_lost.saturating_add(view.log().map_or(0, BlockLog::lost));
            slices(view.mappings_end(), |numbers| {
                for mapping in numbers.filter_map(|number| view.mapping(number)) {
                    let outside = mapping.external.address();
                    if !is_asked([mapping.internal.address(), outside]) {
                        continue;
                    }
                    answer.matched += 1;
                    if answer.mappings.len() < rows {
                        answer.mappings.push(row(stage, worker, &mapping));
                    }
                    if let Some(used) = of(&mut used, outside) {
                        used.mappings += 1;
                    }
                }
            })
            .await;
            slices(view.blocks_end(), |numbers| {
                for block in numbers.filter_map(|number| view.block(number)) {
                    let outside = block.external.address();
                    if is_asked([block.client.address(), outside])
                        && let Some(used) = of(&mut used, outside)
                    {
                        used.blocks += 1;
                    }
                }
            })
            .await;
        }
        answer.tables.push(whole);
        answer.addresses_matched += used.len() as u64;
        let left = rows.saturating_sub(answer.addresses.len());
        answer.addresses.extend(used.into_iter().take(left).map(|(address, used)| AddressRow {
            stage: stage.clone(),
            address: address.to_string(),
            mappings: used.mappings,
            blocks: (*block > 0).then_some(used.blocks),
            blocks_limit: (*block > 0).then_some(*blocks),
        }));
    }
    Answer::Mappings(answer)
}

/// The entry of an address, unless there are too many.
fn of(used: &mut BTreeMap<IpAddr, Used>, address: IpAddr) -> Option<&mut Used> {
    if used.len() >= Mappings::ADDRESSES && !used.contains_key(&address) {
        return None;
    }
    Some(used.entry(address).or_default())
}

fn row(stage: &str, worker: u32, mapping: &Mapping) -> MappingRow {
    let Mapping { internal, external, flows, .. } = mapping;
    let number = internal.protocol();
    MappingRow {
        stage: stage.to_owned(),
        worker,
        protocol: protocol_name(number),
        internal: end((internal.address(), internal.port()), number),
        external: end((external.address(), external.port()), number),
        flows: (*flows).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::flow::HashKey;
    use zsync_packet::region::Region;
    use zsync_pipelines::tables::nat::{Endpoint, NatLayout, Pool, Translations};

    fn gathered(tables: Vec<Table>, address: Option<&str>, rows: usize) -> Mappings {
        let address = address.map(|text| RouteFilter::parse(text).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(gather(tables, address, rows)) {
            Answer::Mappings(mappings) => mappings,
            other => panic!("{other:?}"),
        }
    }

    /// Two workers, each with three clients of each family, of two mappings each.
    fn stage(spec: &NatSpec) -> Table {
        let layout = nat::layout(spec);
        let mut made = table("nat.out", spec);
        for worker in 0..2u8 {
            let region = Region::heap(layout.bytes());
            let ports = nat::ports(spec, (worker, 2));
            let translations = Translations::open(&region, layout, ports, 2, HashKey::from_seed(1)).unwrap();
            translations.start();
            for client in 0..3u8 {
                for (inside, outside) in [
                    (IpAddr::from([10, worker, 0, client]), "203.0.113.1"),
                    (IpAddr::from([0xfd00, worker.into(), 0, 0, 0, 0, 0, client.into()]), "2001:db8::1"),
                ] {
                    for port in [4000, 4001] {
                        let pool = Pool::single(outside.parse().unwrap());
                        let internal = Endpoint::new(inside, port, 17);
                        translations.map(&internal, &pool, 1, |_| false).unwrap();
                    }
                }
            }
            made.views.push(NatView::open(&region, NatLayout { ..layout }).unwrap());
        }
        made
    }

    fn spec(block: u16) -> NatSpec {
        let masquerade = vec![zsync_pipelines::spec::Masquerade {
            output: zsync_pipelines::spec::PortId(0),
            from: Vec::new(),
        }];
        NatSpec { masquerade, block, mappings: 256, ..NatSpec::default() }
    }

    #[test]
    fn mappings_and_the_use_of_each_address_are_shown() {
        let shown = gathered(vec![stage(&spec(64))], None, 100);
        assert_eq!((shown.matched, shown.mappings.len(), shown.addresses_matched), (24, 24, 2));
        let table = &shown.tables[0];
        assert_eq!((table.mappings, table.limit, table.block, table.log_lost), (24, 512, 64, 0));
        for (row, address) in shown.addresses.iter().zip(["203.0.113.1", "2001:db8::1"]) {
            let counts = (row.mappings, row.blocks, row.blocks_limit);
            assert_eq!((row.address.as_str(), counts), (address, (12, Some(6), Some(1024))));
        }
        let one = gathered(vec![stage(&spec(64))], Some("fd00:1::2"), 1);
        assert_eq!((one.matched, one.mappings.len(), one.addresses.len()), (2, 1, 1));
        let (row, address) = (&one.mappings[0], &one.addresses[0]);
        assert!(row.internal.starts_with("[fd00:1::2]:400") && row.external.starts_with("[2001:db8::1]:"));
        assert_eq!((row.protocol.as_str(), row.worker, row.flows), ("udp", 1, 1));
        assert_eq!((address.mappings, address.blocks), (2, Some(1)));
    }

    #[test]
    fn without_blocks_there_are_none_and_what_is_cut_is_counted() {
        let shown = gathered(vec![stage(&spec(0)), stage(&spec(0))], None, 1);
        assert_eq!((shown.matched, shown.mappings.len()), (48, 1));
        assert_eq!((shown.addresses_matched, shown.addresses.len()), (4, 1));
        assert_eq!((shown.addresses[0].blocks, shown.addresses[0].blocks_limit), (None, None));
    }
}
