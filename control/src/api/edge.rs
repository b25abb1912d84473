//! What the daemon answers of the edge's stages: rules, connections, translations.
//!
//! As for all [answers](super::Answer). Addresses with a port are `10.0.0.1:80` and `[2001:db8::1]:80`; of a ping its
//! identifier stands in the port's place; of protocols that have neither the address stands alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::row;

row! {
    /// Filters and their rules.
    Filters {
        /// Each filter, in each pipeline that has it.
        stages: Vec<FilterStage>,
        /// Their rules, in order; when not all of them fit, those that count come before others.
        rules: Vec<RuleRow>,
        /// How many rules there are.
        matched: u64,
    }
    /// A filter in a pipeline.
    FilterStage {
        /// The pipeline.
        pipeline: String,
        /// The stage, as the configuration names it.
        stage: String,
        /// Packets that entered it.
        packets: u64,
        /// Of these, dropped by it.
        drops: u64,
        /// How many rules it has.
        rules: u64,
        /// What becomes of packets that no rule ends for: `drop`.
        default: String,
    }
    /// A rule of a filter. What it has counted is what all rules of the stage have counted under this name, in all pipelines,
    /// since its memory was made.
    RuleRow {
        /// The stage.
        stage: String,
        /// Its place among the stage's rules, from 1.
        rule: u32,
        /// What the configuration says of it.
        text: String,
        /// The name that it counts under.
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<String>,
        /// Packets; none for a rule that does not count.
        #[serde(skip_serializing_if = "Option::is_none")]
        packets: Option<u64>,
        /// Their bytes, as frames.
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    }
    /// Connections.
    Flows {
        /// The `track` stages' tables, all workers together.
        tables: Vec<FlowTable>,
        /// Those that were asked for, at most as many as were asked for.
        flows: Vec<FlowRow>,
        /// How many match what was asked for.
        matched: u64,
    }
    /// How full a table of connections is.
    FlowTable {
        /// The stage.
        stage: String,
        /// Connections in it.
        flows: u64,
        /// Room for so many.
        limit: u64,
        /// Of these, not answered, half open or closing: they make room for others.
        weak: u64,
        /// Of these, half-open TCP connections.
        half_open: u64,
        /// Connections that are translated.
        translated: u64,
        /// What happened since its memory was made: `expired`, `evicted-weak`, `refused-full`.
        events: BTreeMap<String, u64>,
    }
    /// A connection.
    FlowRow {
        /// The stage that tracks it.
        stage: String,
        /// The worker that has it.
        worker: u32,
        /// `tcp`, or the number of a protocol without a name here.
        protocol: String,
        /// Who began it.
        from: String,
        /// With whom.
        to: String,
        /// Who answers, as the answers come in.
        reply_from: String,
        /// To whom.
        reply_to: String,
        /// What is translated: `source`, `destination` or `both`.
        #[serde(skip_serializing_if = "Option::is_none")]
        translated: Option<String>,
        /// Of TCP its state, `established`; else `unanswered`, `answered`, or, of UDP that goes both ways for long, `stream`.
        state: String,
        /// Its mark.
        mark: u32,
        /// Milliseconds since it began; none for TCP.
        #[serde(skip_serializing_if = "Option::is_none")]
        age_ms: Option<u64>,
        /// Milliseconds until it ends unless a packet comes.
        expires_ms: u64,
    }
    /// Translations.
    Mappings {
        /// The `nat` stages' tables, all workers together.
        tables: Vec<MappingTable>,
        /// The public addresses that are in use, at most as many as were asked for.
        addresses: Vec<AddressRow>,
        /// How many are in use; those beyond [`Mappings::ADDRESSES`] are not counted.
        addresses_matched: u64,
        /// Those that were asked for, at most as many as were asked for.
        mappings: Vec<MappingRow>,
        /// How many match what was asked for.
        matched: u64,
    }
    /// How full a table of translations is.
    MappingTable {
        /// The stage.
        stage: String,
        /// Mappings in it.
        mappings: u64,
        /// Room for so many.
        limit: u64,
        /// Ports of a block; 0: ports are given out one by one.
        block: u16,
        /// Entries of the log of blocks that were lost.
        log_lost: u64,
    }
    /// The use of a public address by the mappings that were asked for.
    AddressRow {
        /// The stage.
        stage: String,
        /// The address.
        address: String,
        /// Mappings to it.
        mappings: u64,
        /// Its blocks that clients have; none where ports are given out one by one.
        #[serde(skip_serializing_if = "Option::is_none")]
        blocks: Option<u64>,
        /// Its blocks.
        #[serde(skip_serializing_if = "Option::is_none")]
        blocks_limit: Option<u64>,
    }
    /// Who is seen as whom.
    MappingRow {
        /// The stage.
        stage: String,
        /// The worker that has it.
        worker: u32,
        /// As of a connection.
        protocol: String,
        /// The end inside.
        internal: String,
        /// The end outside.
        external: String,
        /// Connections that use it, counted within the last seconds.
        flows: u64,
    }
}

impl Mappings {
    /// Public addresses of which the use is counted.
    pub const ADDRESSES: usize = 16_384;
}
